"""System checks: settings that would break the promises of the server, each with a hint."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from django.apps import apps
from django.conf import settings
from django.core.checks import CheckMessage, Error, Tags, Warning, register
from django.db import connections
from drf_spectacular.openapi import AutoSchema
from rest_framework.settings import api_settings

from crunch_tasks.files.mounts import mount_at

LOOPBACK = {"localhost", "127.0.0.1", "[::1]", "testserver"}


@register(Tags.compatibility)
def check_apps(**_: Any) -> Iterable[CheckMessage]:
    missing = [name for name in ("rest_framework", "rest_framework.authtoken") if not apps.is_installed(name)]
    if missing:
        yield Error(f"The app needs {' and '.join(missing)}.", hint="Add them to INSTALLED_APPS.", id="crunch.E001")


@register(Tags.compatibility)
def check_schema(**_: Any) -> Iterable[CheckMessage]:
    configured: Any = api_settings.DEFAULT_SCHEMA_CLASS
    if not issubclass(configured, AutoSchema):
        yield Warning(
            "The API's OpenAPI document cannot be made.",
            hint='Set REST_FRAMEWORK = {"DEFAULT_SCHEMA_CLASS": "drf_spectacular.openapi.AutoSchema"}.',
            id="crunch.W004",
        )


@register(Tags.database)
def check_databases(databases: Iterable[str] | None = None, **_: Any) -> Iterable[CheckMessage]:
    for alias in databases or []:
        configured = connections[alias].settings_dict
        if connections[alias].vendor == "sqlite" and configured["OPTIONS"].get("transaction_mode") != "IMMEDIATE":
            yield Warning(
                f"SQLite database {alias!r}: clients that claim at once will meet 'database is locked'.",
                hint='Set OPTIONS to {"transaction_mode": "IMMEDIATE", "init_command": "PRAGMA journal_mode=WAL"}.',
                id="crunch.W001",
            )
        mount = mount_at(Path(configured["NAME"])) if connections[alias].vendor == "sqlite" else None
        if mount and mount.is_network:
            yield Warning(
                f"SQLite database {alias!r} is on a network file system ({mount.point}, {mount.type}): its write-ahead "
                "log needs memory that all its processes share, and its locks are not to be relied on there.",
                hint="Set CRUNCH_DATABASE_URL to a file on a local disk, or to PostgreSQL.",
                id="crunch.W005",
            )
        if configured["ATOMIC_REQUESTS"]:
            yield Warning(
                f"Database {alias!r} has ATOMIC_REQUESTS: a claim would wait for everything else in its request.",
                hint="Turn it off; the app opens its own transactions.",
                id="crunch.W002",
            )


@register(Tags.security)
def check_cookies(**_: Any) -> Iterable[CheckMessage]:
    if set(settings.ALLOWED_HOSTS) - LOOPBACK and not settings.SESSION_COOKIE_SECURE:
        yield Warning(
            "The site is open to other machines, and its cookies travel without TLS.",
            hint="Serve it over https and set CRUNCH_CSRF_TRUSTED_ORIGINS=https://your.host.",
            id="crunch.W003",
        )
