"""One at a time, where a row of the database cannot say so: what is done meanwhile may take minutes in a storage."""

from __future__ import annotations

import contextlib
import hashlib
import threading
from collections.abc import Iterator

from django.db import connection

from crunch_tasks.errors import Refused

_here: set[str] = set()
_guard = threading.Lock()


@contextlib.contextmanager
def only_one(name: str, refusal: str) -> Iterator[None]:
    """Be the only one in a context of this `name`: of all processes of the site on PostgreSQL, of this one on SQLite.

    Raises Refused (409 `busy`) with the sentence `refusal` when somebody else is.
    """
    with _guard:
        if name in _here:
            raise Refused(refusal, 409, "busy")
        _here.add(name)
    try:
        with _in_postgresql(name, refusal) if connection.vendor == "postgresql" else contextlib.nullcontext():
            yield
    finally:
        _here.discard(name)


@contextlib.contextmanager
def _in_postgresql(name: str, refusal: str) -> Iterator[None]:
    """An advisory lock of the connection: PostgreSQL frees it when the process dies."""
    key = key_of(name)
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_lock(%s)", [key])
        if cursor.fetchone() != (True,):
            raise Refused(refusal, 409, "busy")
        try:
            yield
        finally:
            cursor.execute("SELECT pg_advisory_unlock(%s)", [key])


def key_of(name: str) -> int:
    """PostgreSQL's locks have numbers for names."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], signed=True)
