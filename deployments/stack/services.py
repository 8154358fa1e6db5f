"""The services of a stack: how each is started, where it answers, and how one asks whether it is well."""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx

from crunch_tasks.errors import CrunchError
from deployments.local import Service, crunch_server, prefect_server, server_environment
from deployments.stack import databases
from deployments.stack.folder import EMBEDDED, StackFolder, StackSettings

ASK_S = 5.0
POOL = "crunch"
WORKER = f"{socket.gethostname()}-up"
"""The worker's name in Prefect; another machine's worker on the same pool has another one."""


@dataclass(frozen=True)
class Part:
    """One service of a stack. `problem` asks it: "" when all is well."""

    key: str
    name: str
    address: str
    log: Path
    problem: Callable[[], str]
    option: str = ""
    """The command's option for its port."""
    port: int = 0


@dataclass(frozen=True)
class Stack:
    """A data folder and how it is set up."""

    folder: StackFolder
    settings: StackSettings

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.settings.port}"

    @property
    def prefect_url(self) -> str:
        return f"http://127.0.0.1:{self.settings.prefect_port}"

    @property
    def storage_settings(self) -> Path:
        return Path(self.settings.storage_settings or self.folder.storage_settings)

    @property
    def database_url(self) -> str:
        """The PostgreSQL database's address; "" with SQLite. An embedded server must run."""
        if self.settings.database == EMBEDDED:
            return databases.embedded_address(self.folder.postgres)
        return self.settings.database

    @property
    def server_environment(self) -> dict[str, str]:
        """What the Crunch server and `python -m server` run with."""
        environment = server_environment(self.folder.server, self.storage_settings)
        return environment | ({"CRUNCH_DATABASE_URL": self.database_url} if self.settings.database else {})

    @property
    def client_environment(self) -> dict[str, str]:
        """What `crunch` and `prefect` run with."""
        return {
            "CRUNCH_URL": self.url,
            "CRUNCH_TOKEN": self.settings.token,
            "CRUNCH_STORAGE_SETTINGS": str(self.storage_settings),
            "PREFECT_API_URL": f"{self.prefect_url}/api",
            "PREFECT_HOME": str(self.folder.prefect),
            # Else Prefect says at a terminal that it tells its makers of what is used, and does.
            "DO_NOT_TRACK": "1",
        }

    def parts(self) -> list[Part]:
        """What belongs to the stack, in the order in which it is started."""
        logs, settings = self.folder.logs, self.settings
        parts = [
            Part("prefect", "Prefect server", self.prefect_url, logs / "prefect.log", self._prefect_problem,
                 "--prefect-port", settings.prefect_port),
            Part("crunch", "Crunch server", self.url, logs / "crunch.log", self._crunch_problem,
                 "--port", settings.port),
        ]  # fmt: skip
        if settings.database == EMBEDDED:
            log = self.folder.postgres / "log"
            parts.insert(0, Part("postgres", "PostgreSQL", "", log, self._postgres_problem))
        if settings.worker:
            parts.append(Part("worker", "Prefect worker", "", logs / "worker.log", self.worker_problem))
        return parts

    def record(self, key: str) -> Path:
        """Where it is written which process the service is."""
        return self.folder.run / f"{key}.json"

    def prefect_service(self) -> Service:
        database = databases.prefect_address(self.database_url) if self.settings.database else ""
        service = prefect_server(self.folder.prefect, self.settings.prefect_port, database=database)
        return replace(service, log=self.folder.logs / "prefect.log")

    def crunch_service(self) -> Service:
        service = crunch_server(self.folder.server, self.storage_settings, self.settings.port)
        environment = {**self.server_environment, "PREFECT_HOME": str(self.folder.prefect)}
        return replace(service, environment=environment, log=self.folder.logs / "crunch.log")

    def worker_service(self, limit: int, began: datetime) -> Service:
        """The worker, for `limit` flow runs at once; ready when Prefect has heard of it since `began`."""
        arguments = ["prefect", "worker", "start", "--pool", POOL, "--type", "process", "--name", WORKER]
        environment = {
            **self.client_environment,
            "CRUNCH_DIRECTORY": str(self.folder.work),
            # A question costs nothing on one machine; ten seconds, as Prefect has it, would be half of a short run.
            "PREFECT_WORKER_QUERY_SECONDS": "2",
        }
        return Service(
            "Prefect worker",
            [*arguments, "--limit", str(limit)],
            environment,
            lambda: not self.worker_problem(began),
            self.folder.logs / "worker.log",
        )

    def worker_problem(self, since: datetime | None = None) -> str:
        try:
            answer = httpx.post(
                f"{self.prefect_url}/api/work_pools/{POOL}/workers/filter", json={}, timeout=ASK_S, trust_env=False
            )
            workers = answer.raise_for_status().json()
        except httpx.HTTPError as error:
            return f"Prefect does not tell of it: {_first_line(error)}"
        return _worker_problem(workers, since)

    def _crunch_problem(self) -> str:
        try:
            answer = httpx.get(f"{self.url}/readyz/", timeout=ASK_S, trust_env=False)
            parts: Mapping[str, str] = answer.json()
        except (httpx.HTTPError, ValueError) as error:
            return f"It does not answer: {_first_line(error)}"
        return " ".join(problem for name, problem in parts.items() if name != "status" and problem != "ok")

    def _prefect_problem(self) -> str:
        try:
            httpx.get(f"{self.prefect_url}/api/health", timeout=ASK_S, trust_env=False).raise_for_status()
        except httpx.HTTPError as error:
            return f"It does not answer: {_first_line(error)}"
        return ""

    def _postgres_problem(self) -> str:
        try:
            databases.connect(self.database_url).close()
        except CrunchError as error:
            return str(error)
        return ""


def _first_line(error: Exception) -> str:
    """httpx ends its words with an address to read on."""
    return next(iter(str(error).splitlines()), type(error).__name__)


def _worker_problem(workers: list[dict[str, Any]], since: datetime | None) -> str:
    """From what Prefect says of the pool's workers."""
    ours = next((one for one in workers if one["name"] == WORKER), None)
    if ours is None:
        return "Prefect has not heard of it yet."
    if since is not None and datetime.fromisoformat(ours["last_heartbeat_time"]) < since:
        return "Prefect has not heard of it since it was started."
    return "" if ours["status"] == "ONLINE" else f"Prefect last heard of it at {ours['last_heartbeat_time']}."
