"""System checks: settings that would break the promises of the server, each with a hint."""

from __future__ import annotations

import ipaddress
import os
import stat
from collections.abc import Iterable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from django.apps import apps
from django.conf import settings
from django.core.checks import CheckMessage, Error, Tags, Warning, register
from django.db import connections
from drf_spectacular.openapi import AutoSchema
from rest_framework.settings import api_settings

from crunch_tasks.files.mounts import mount_at
from crunch_tasks.storage_settings import FOLDER, secrets_of

LOOPBACK = {"localhost", "127.0.0.1", "[::1]", "testserver"}
VERIFYING = {"require", "verify-ca", "verify-full"}
"""PostgreSQL's sslmode with which nothing travels in the clear."""


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
        if connections[alias].vendor == "sqlite":
            yield from _sqlite(alias, configured)
        elif connections[alias].vendor == "postgresql":
            yield from _postgresql(alias, configured)
        if configured["ATOMIC_REQUESTS"]:
            yield Warning(
                f"Database {alias!r} has ATOMIC_REQUESTS: a claim would wait for everything else in its request.",
                hint="Turn it off; the app opens its own transactions.",
                id="crunch.W002",
            )


def _sqlite(alias: str, configured: dict[str, Any]) -> Iterable[CheckMessage]:
    if configured["OPTIONS"].get("transaction_mode") != "IMMEDIATE":
        yield Warning(
            f"SQLite database {alias!r}: clients that claim at once will meet 'database is locked'.",
            hint='Set OPTIONS to {"transaction_mode": "IMMEDIATE", "init_command": "PRAGMA journal_mode=WAL"}.',
            id="crunch.W001",
        )
    mount = mount_at(Path(configured["NAME"]))
    if mount and mount.is_network:
        yield Warning(
            f"SQLite database {alias!r} is on a network file system ({mount.point}, {mount.type}): its write-ahead "
            "log needs memory that all its processes share, and its locks are not to be relied on there.",
            hint="Set CRUNCH_DATABASE_URL to a file on a local disk, or to PostgreSQL.",
            id="crunch.W005",
        )
    yield from _open_to_all(Path(configured["NAME"]), "which has people's tokens in it")


def _postgresql(alias: str, configured: dict[str, Any]) -> Iterable[CheckMessage]:
    host = str(configured.get("HOST") or configured["OPTIONS"].get("host") or "")
    if is_elsewhere(host) and configured["OPTIONS"].get("sslmode") not in VERIFYING:
        yield Warning(
            f"PostgreSQL database {alias!r} is on another machine ({host}), and tokens may travel there without TLS.",
            hint="Add ?sslmode=verify-full, or at least require, to CRUNCH_DATABASE_URL.",
            id="crunch.W006",
        )


@register(Tags.security)
def check_cookies(**_: Any) -> Iterable[CheckMessage]:
    if set(settings.ALLOWED_HOSTS) - LOOPBACK and not settings.SESSION_COOKIE_SECURE:
        yield Warning(
            "The site is open to other machines, and its cookies travel without TLS.",
            hint="Serve it over https and set CRUNCH_CSRF_TRUSTED_ORIGINS=https://your.host.",
            id="crunch.W003",
        )


@register(Tags.security)
def check_hosts(**_: Any) -> Iterable[CheckMessage]:
    if settings.DEBUG and set(settings.ALLOWED_HOSTS) - LOOPBACK:
        yield Warning(
            "The site is open to other machines, and shows its code and settings with each error.",
            hint="Unset CRUNCH_DEBUG.",
            id="crunch.W007",
        )
    if "*" in settings.ALLOWED_HOSTS:
        yield Warning(
            "The site answers to any host name, so others can make it write links to a host of theirs.",
            hint="Set CRUNCH_ALLOWED_HOSTS to the names that it is reached by.",
            id="crunch.W008",
        )


@register(Tags.security)
def check_storage(**_: Any) -> Iterable[CheckMessage]:
    storage = settings.STORAGES["default"]
    file = os.environ.get("CRUNCH_STORAGE_SETTINGS")
    if file and secrets_of(storage):
        yield from _open_to_all(Path(file), "which has the storage's keys in it")
    endpoint = urlsplit(str(storage.get("OPTIONS", {}).get("endpoint_url") or ""))
    if endpoint.scheme == "http" and is_elsewhere(endpoint.hostname or ""):
        yield Warning(
            f"The storage is on another machine ({endpoint.hostname}), and files travel there without TLS.",
            hint="Write its endpoint_url with https, here and for the clients.",
            id="crunch.W010",
        )


@register(Tags.security, deploy=True)
def check_storage_is_shared(**_: Any) -> Iterable[CheckMessage]:
    storage = settings.STORAGES["default"]
    if storage["BACKEND"] not in (FOLDER.dotted, *FOLDER.aliases) or not set(settings.ALLOWED_HOSTS) - LOOPBACK:
        return
    folder = storage.get("OPTIONS", {}).get("location") or settings.MEDIA_ROOT
    mount = mount_at(Path(folder))
    if mount and not mount.is_network:
        yield Warning(
            f"The storage is a folder on this machine's own disk ({folder}): a client on another machine would read "
            "and write a folder of its own there.",
            hint="Run clients on this machine only, or set CRUNCH_STORAGE_SETTINGS to a storage that all can reach.",
            id="crunch.W011",
        )


def _open_to_all(path: Path, why: str) -> Iterable[CheckMessage]:
    """A warning if every user of this machine can read the file."""
    try:
        folders = all(folder.stat().st_mode & stat.S_IXOTH for folder in path.absolute().parents)
        readable = folders and path.stat().st_mode & stat.S_IROTH
    except OSError:
        # Not there yet, or not for us: whoever opens it will say so.
        return
    if readable:
        yield Warning(
            f"Every user of this machine can read {path}, {why}.",
            hint=f"chmod o= {path}",
            id="crunch.W009",
        )


def is_elsewhere(host: str) -> bool:
    """Whether the host, by name or address, is another machine; "" and a folder (of sockets) are this one."""
    if not host or host.startswith("/") or host == "localhost":
        return False
    try:
        return not ipaddress.ip_address(host).is_loopback
    except ValueError:
        return True
