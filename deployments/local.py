"""Servers as child processes on this machine, on loopback and free ports: for the demo and for trying things out."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

import httpx

from crunch_tasks.errors import CrunchError

START_S = 90.0
STOP_S = 15.0


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class Service:
    """A child process `python -m MODULE ...` that answers HTTP at `ready` once it is up; its output goes to `log`."""

    name: str
    arguments: list[str]
    environment: Mapping[str, str]
    ready: str
    log: Path
    process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    def __enter__(self) -> Self:
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", *self.arguments],
                env={**os.environ, **self.environment},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                # Ctrl-C at the terminal is for the demo, which then stops its services one by one.
                start_new_session=True,
            )
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
        """Return when it answers. Raises CrunchError with the end of its log when it ends or stays silent."""
        deadline = time.monotonic() + START_S
        while time.monotonic() < deadline and self.process is not None and self.process.poll() is None:
            try:
                httpx.get(self.ready, timeout=5, trust_env=False)
            except httpx.TransportError:
                time.sleep(0.1)
            else:
                return
        tail = self.log.read_text(errors="replace")[-2000:]
        raise CrunchError(f"The {self.name} does not start. The end of {self.log}:\n{tail}")


def crunch_server(data: Path, storage_settings: Path, port: int) -> Service:
    """A Crunch server on SQLite below `data`."""
    return Service(
        "Crunch server",
        ["uvicorn", "server.site.asgi:application", "--port", str(port), "--log-level", "warning"],
        server_environment(data, storage_settings),
        f"http://127.0.0.1:{port}/accounts/login/",
        data / "server.log",
    )


def server_environment(data: Path, storage_settings: Path) -> dict[str, str]:
    return {"CRUNCH_DATA": str(data), "CRUNCH_STORAGE_SETTINGS": str(storage_settings), "CRUNCH_DATABASE_URL": ""}


def prefect_server(home: Path, port: int) -> Service:
    """A Prefect server on SQLite below `home`."""
    environment = {
        "PREFECT_HOME": str(home),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_API_URL": f"http://127.0.0.1:{port}/api",
        "PREFECT_UI_API_URL": f"http://127.0.0.1:{port}/api",
        "DO_NOT_TRACK": "1",
    }
    arguments = ["prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port)]
    return Service(
        "Prefect server", arguments, environment, f"http://127.0.0.1:{port}/api/health", home / "prefect.log"
    )


def manage(environment: Mapping[str, str], *arguments: str) -> str:
    """`python -m server ARGUMENTS`; what it prints. Raises CrunchError when it fails."""
    done = subprocess.run(
        [sys.executable, "-m", "server", *arguments],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise CrunchError(f"python -m server {' '.join(arguments)} failed:\n{done.stdout}{done.stderr}")
    return done.stdout
