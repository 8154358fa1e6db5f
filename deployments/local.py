"""Servers as processes on this machine, on loopback: of the demo, and of `crunch up`, which leaves them running."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

import httpx

from crunch_tasks.durable import write_durably
from crunch_tasks.errors import CrunchError

LOOPBACK = "127.0.0.1"
ONLY_MINE = 0o600
START_S = 90.0
STOP_S = 15.0
TOLD_LINES = 8
TOLD_LENGTH = 300
"""Of a service's last words: how many lines are told, and how many characters of each."""


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def bare_environment() -> dict[str, str]:
    """This process's environment without what would set up Crunch, Django or Prefect in another way than meant."""
    return {
        name: value for name, value in os.environ.items() if not name.startswith(("CRUNCH_", "DJANGO_", "PREFECT_"))
    }


def answers(address: str) -> Callable[[], bool]:
    """Whether a GET of `address` is answered with a success now."""
    # One for all times: each would load certificates, which takes longer than the answer.
    client = httpx.Client(timeout=5, trust_env=False)

    def ask() -> bool:
        try:
            return client.get(address).is_success
        except httpx.TransportError:
            return False

    return ask


@dataclass
class Service:
    """A child process `python -m MODULE ...` which is up once `ready` says so; its output goes to `log`."""

    name: str
    arguments: list[str]
    environment: Mapping[str, str]
    ready: Callable[[], bool]
    log: Path
    process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    def start(self) -> int:
        """Start it, in a session of its own, so that it outlives this process and its terminal; returns its pid."""
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", *self.arguments],
                env={**bare_environment(), **self.environment},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                # Ctrl-C at the terminal is for the demo, which then stops its services one by one.
                start_new_session=True,
            )
        return self.process.pid

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.process is None or self.process.poll() is not None:
            return
        os.killpg(self.process.pid, signal.SIGTERM)
        try:
            self.process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()

    def wait(self) -> None:
        """Return when it is ready, also when an earlier command started it. Raises CrunchError with the end of its log
        when it ends or stays silent.
        """
        deadline = time.monotonic() + START_S
        while time.monotonic() < deadline and (self.process is None or self.process.poll() is None):
            if self.ready():
                return
            time.sleep(0.1)
        tail = last_lines(self.log.read_text(errors="replace"))
        raise CrunchError(f"The {self.name} does not start. The end of {self.log}:\n{tail}")


def last_lines(text: str) -> str:
    """The end of a log as a person may read it: the last TOLD_LINES lines, each from its beginning."""
    lines = text.rstrip().splitlines()[-TOLD_LINES:]
    return "\n".join(line if len(line) <= TOLD_LENGTH else f"{line[:TOLD_LENGTH]}…" for line in lines)


def crunch_server(data: Path, storage_settings: Path, port: int) -> Service:
    """A Crunch server on SQLite below `data`."""
    return Service(
        "Crunch server",
        ["uvicorn", "server.site.asgi:application", "--port", str(port), "--log-level", "warning"],
        server_environment(data, storage_settings),
        answers(f"http://127.0.0.1:{port}/healthz/"),
        data / "server.log",
    )


def server_environment(data: Path, storage_settings: Path) -> dict[str, str]:
    return {"CRUNCH_DATA": str(data), "CRUNCH_STORAGE_SETTINGS": str(storage_settings)}


def folder_storage(file: Path, folder: Path) -> Path:
    """Write the storage settings `file` of a storage that is `folder`, for its owner only; returns the file."""
    # A JSON string is one of TOML too.
    write_durably(file, f"MEDIA_ROOT = {json.dumps(str(folder), ensure_ascii=False)}\n".encode(), ONLY_MINE)
    return file


def prefect_server(home: Path, port: int, host: str = LOOPBACK, database: str = "") -> Service:
    """A Prefect server on SQLite below `home`, or on the PostgreSQL database at the address `database`."""
    api = f"http://{host}:{port}/api"
    environment = {
        "PREFECT_HOME": str(home),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_API_URL": api,
        "PREFECT_UI_API_URL": api,
        "DO_NOT_TRACK": "1",
    }
    if database:
        environment["PREFECT_SERVER_DATABASE_CONNECTION_URL"] = _for_asyncpg(database)
    arguments = ["prefect", "server", "start", "--host", host, "--port", str(port)]
    return Service("Prefect server", arguments, environment, answers(f"{api}/health"), home / "prefect.log")


def _for_asyncpg(url: str) -> str:
    """The address as SQLAlchemy takes it, which hands the query's words to asyncpg."""
    parts = urlsplit(url)
    # PostgreSQL's own library says `sslmode`.
    words = [("ssl" if name == "sslmode" else name, value) for name, value in parse_qsl(parts.query)]
    return urlunsplit(parts._replace(scheme="postgresql+asyncpg", query=urlencode(words, safe="/")))


def manage(environment: Mapping[str, str], *arguments: str) -> str:
    """`python -m server ARGUMENTS`; what it prints. Raises CrunchError with its last line when it fails."""
    done = subprocess.run(
        [sys.executable, "-m", "server", *arguments],
        env={**bare_environment(), **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        # The last line is the error's own words, also where a traceback is before it.
        reason = (done.stdout + done.stderr).strip().rpartition("\n")[2]
        raise CrunchError(f"python -m server {' '.join(arguments)} failed: {reason}")
    return done.stdout


def add_superuser(environment: Mapping[str, str], name: str, password: str) -> None:
    """Raises CrunchError when it fails, as for a name that there is already."""
    account = {"DJANGO_SUPERUSER_PASSWORD": password}
    words = ("createsuperuser", "--noinput", "--username", name, "--email", f"{name}@example.org")
    manage({**environment, **account}, *words)


def token_of(environment: Mapping[str, str], name: str) -> str:
    """The token of the user, who gets one if need be."""
    # "Generated token KEY for user NAME"
    return manage(environment, "drf_create_token", name).split()[2]
