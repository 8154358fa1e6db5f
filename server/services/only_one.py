"""One at a time, where a row of the database cannot say so: what is done meanwhile may take minutes in a storage."""

from __future__ import annotations

import contextlib
import fcntl
import functools
import hashlib
import os
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Any

from django.db import connection

from crunch_tasks.errors import Refused

BESIDE = "-only-one"
"""How the file of the locks is called after SQLite's own, beside which it is. It stays empty."""

_here: set[str] = set()
_guard = threading.Lock()


@contextlib.contextmanager
def only_one(name: str, refusal: str) -> Iterator[None]:
    """Be the only one of all processes of the site in a context of this `name`.

    Raises Refused (409 `busy`) with the sentence `refusal` when somebody else is.
    """
    with _guard:
        if name in _here:
            raise Refused(refusal, 409, "busy")
        _here.add(name)
    try:
        with _among_processes(name, refusal):
            yield
    finally:
        _here.discard(name)


def _among_processes(name: str, refusal: str) -> AbstractContextManager[None]:
    if connection.vendor == "postgresql":
        return _in_postgresql(name, refusal)
    sqlite: Any = connection
    if sqlite.is_in_memory_db():
        # No other process has this database.
        return contextlib.nullcontext()
    return _in_file(f"{sqlite.settings_dict['NAME']}{BESIDE}", name, refusal)


@contextlib.contextmanager
def _in_postgresql(name: str, refusal: str) -> Iterator[None]:
    """An advisory lock of the connection: PostgreSQL frees it when the process dies."""
    key = _number(name)
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_lock(%s)", [key])
        if cursor.fetchone() != (True,):
            raise Refused(refusal, 409, "busy")
        try:
            yield
        finally:
            cursor.execute("SELECT pg_advisory_unlock(%s)", [key])


@contextlib.contextmanager
def _in_file(path: str, name: str, refusal: str) -> Iterator[None]:
    """A lock on one byte of a file, far beyond its end: the system frees it when the process dies, and one empty file
    is enough for all names.
    """
    file, byte = _opened(path), _number(name)
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, byte)
    except BlockingIOError:
        raise Refused(refusal, 409, "busy") from None
    try:
        yield
    finally:
        fcntl.lockf(file, fcntl.LOCK_UN, 1, byte)


@functools.cache
def _opened(path: str) -> int:
    """The file, opened once and for all: a process that closes it anywhere loses all its locks on it."""
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)


def _number(name: str) -> int:
    """PostgreSQL's locks and a file's bytes have numbers for names, of 63 bits."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8]) >> 1
