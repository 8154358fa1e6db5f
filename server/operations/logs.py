"""The server's log lines, for people or as JSON for programs; secrets are taken out of both.

A line should hold no secret to begin with. But an error's message may quote what it was given (an address with its
password, a header), so what is known to be secret, and what looks like a token, is struck out here.
"""

from __future__ import annotations

import datetime as dt
import functools
import json
import logging
import re
from contextvars import ContextVar
from typing import Any

from django.conf import settings

from crunch_tasks.storage_settings import secrets_of

HIDDEN = "[hidden]"
SHORTEST = 6
"""Shorter ones are not struck out: the word would vanish wherever it stands, and guessing it is easier than reading."""

TOKEN = re.compile(r"\b(Token|Bearer|Basic) +[^\s\"',]{12,}|\b[0-9a-f]{40}\b|\bcrunch_[\w-]{43}", re.IGNORECASE)
"""What follows the scheme in an Authorization header, and what tokens look like on their own."""

PASSWORD_IN_URL = re.compile(r"(?<=://)([^\s/:@]*):[^\s/@]+(?=@)")

request_id: ContextVar[str] = ContextVar("request_id", default="")
"""The request that is being answered. Django logs a problem after all middleware, so the next request ends it."""


@functools.cache
def _known() -> tuple[str, ...]:
    database = (str(configured.get("PASSWORD") or "") for configured in settings.DATABASES.values())
    found = {str(settings.SECRET_KEY), *database, *secrets_of(settings.STORAGES["default"])}
    # The longer first: one may be a part of another.
    return tuple(sorted((secret for secret in found if len(secret) >= SHORTEST), key=len, reverse=True))


def hide(text: str) -> str:
    """The text without secrets."""
    for secret in _known():
        text = text.replace(secret, HIDDEN)
    text = PASSWORD_IN_URL.sub(rf"\1:{HIDDEN}", text)
    return TOKEN.sub(lambda found: f"{found[1]} {HIDDEN}" if found[1] else HIDDEN, text)


class WithoutTraceback(logging.Filter):
    """A request that was refused (403, 404) is one line: nothing went wrong here."""

    def filter(self, record: logging.LogRecord) -> bool:
        if record.levelno < logging.ERROR:
            record.exc_info = None
        return True


class Text(logging.Formatter):
    """Lines for people."""

    def format(self, record: logging.LogRecord) -> str:
        return hide(super().format(record))


class JSONLines(logging.Formatter):
    """A JSON object in each line: time, level, logger, message, request, and what the record adds in `fields`."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": dt.datetime.fromtimestamp(record.created, dt.UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
            "request": request_id.get(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        # Before it is JSON, which would write a quotation mark in a secret in another way.
        return json.dumps({key: hide(value) if isinstance(value, str) else value for key, value in line.items()})


def configuration(form: str) -> dict[str, Any]:
    """Django's LOGGING for the `form` "text" or "json"; with JSON each request has a line too."""
    loggers: dict[str, Any] = {
        # Scanners send these all day; each is answered 400, and needs no traceback.
        "django.security.DisallowedHost": {"level": "CRITICAL"},
        "django.request": {"filters": ["refused"]},
    }
    if form == "json":
        loggers |= {
            "server.operations.requests": {"level": "INFO"},
            "uvicorn": {"handlers": ["console"], "level": "INFO", "propagate": False},
            # Our own line says more, and nothing of the query.
            "uvicorn.access": {"handlers": [], "propagate": False},
        }
    formatter = "server.operations.logs.JSONLines" if form == "json" else "server.operations.logs.Text"
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"ours": {"()": formatter}},
        "filters": {"refused": {"()": "server.operations.logs.WithoutTraceback"}},
        "handlers": {"console": {"class": "logging.StreamHandler", "formatter": "ours"}},
        "root": {"handlers": ["console"], "level": "WARNING"},
        "loggers": loggers,
    }
