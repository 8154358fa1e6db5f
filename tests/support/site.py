"""A whole Crunch site for acceptance tests: a real server, a real storage, and the `crunch` command as a process."""

from __future__ import annotations

import functools
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from crunch_tasks.files.opening import open_storage
from crunch_tasks.files.storage import Storage
from crunch_tasks.link.client import CrunchClient
from crunch_tasks.storage_settings import load_storage_settings
from tests.support.forks import NEEDS_A_START, Fork, Forks
from tests.support.servers import CrunchServer

CRUNCH = str(Path(sys.executable).with_name("crunch"))


class Command(subprocess.Popen[str]):
    """A command that tells where its threads are if it does not come to its end."""

    def communicate(self, input: str | None = None, timeout: float | None = None) -> tuple[str, str]:
        try:
            return super().communicate(input, timeout)
        except subprocess.TimeoutExpired:
            self.send_signal(signal.SIGABRT)
            _, err = super().communicate()
            raise AssertionError(f"{self.args} did not end within {timeout:g} s:\n{err}") from None


Running = Command | Fork


@dataclass
class Site:
    """`crunch(...)` runs the command as alice, in `directory`, against this server and storage."""

    server: CrunchServer
    storage_settings: Path
    directory: Path
    prefect_api: str
    environment: dict[str, str] = field(default_factory=dict)
    forks: Forks | None = None
    """Starts the commands, where they need not be started anew."""

    @property
    def storage(self) -> Storage:
        return _storage(self.storage_settings)

    @property
    def client(self) -> CrunchClient:
        return _client(self.server.url, self.server.tokens["alice"])

    @property
    def env(self) -> dict[str, str]:
        """What a user's shell would have: server, token, storage, directory, Prefect."""
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("CRUNCH_")}
        return inherited | {
            "CRUNCH_URL": self.server.url,
            "CRUNCH_TOKEN": self.server.tokens["alice"],
            "CRUNCH_STORAGE_SETTINGS": str(self.storage_settings),
            "CRUNCH_DIRECTORY": str(self.directory),
            "PREFECT_API_URL": self.prefect_api,
            "PYTHONFAULTHANDLER": "1",
            **self.environment,
        }

    def add_project(self, name: str, workflow: str, **values: Any) -> str:
        return str(self.client.create_project(name=name, workflow=workflow, **values)["slug"])

    def add_dataset(self, project: str, name: str, files: Mapping[str, bytes]) -> str:
        """A dataset with its files in the storage; returns its slug."""
        made = self.client.create_dataset(parent=project, name=name)
        for path, content in files.items():
            self.storage.write(f"{made['base_file_path']}/{path}", content)
        return str(made["slug"])

    def start(self, *words: str, **environment: str) -> Running:
        """`crunch WORDS` in the background."""
        env = self.env | environment
        if self.forks is not None and env.keys().isdisjoint(NEEDS_A_START):
            return self.forks.start([CRUNCH, *words], env)
        return Command(
            [CRUNCH, *words],
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def crunch(self, *words: str, code: int | None = 0, **environment: str) -> subprocess.CompletedProcess[str]:
        """`crunch WORDS` to its end, which must be exit code `code` (None: any)."""
        process = self.start(*words, **environment)
        out, err = process.communicate(timeout=180)
        if code is not None:
            assert process.returncode == code, f"crunch {' '.join(words)}: {process.returncode}\n{out}\n{err}"
        assert "Traceback" not in err, err
        return subprocess.CompletedProcess(words, process.returncode, out, err)

    def dataset(self, slug: str) -> dict[str, Any]:
        return dict(self.client.get_dataset(slug))

    def expire(self, slug: str) -> None:
        """The time of the dataset's lease is over, at once (of a server on SQLite)."""
        with sqlite3.connect(self.server.folder / "crunch.sqlite3", timeout=30) as database:
            database.execute(
                "UPDATE server_dataset SET lease_expires = '2000-01-01 00:00:00' WHERE lease_expires IS NOT NULL "
                "AND item_ptr_id = (SELECT id FROM server_item WHERE slug = ?)",
                [slug],
            )

    def dataset_claim(self, slug: str) -> int:
        """The claim of the dataset's newest status."""
        return int(self._rows(slug)[-1]["claim"])

    def statuses(self, slug: str, *, effective: bool = True) -> list[tuple[int, int]]:
        """(stage, state) of each status of the dataset, oldest first."""
        rows = [row for row in self._rows(slug) if row["effective"] or not effective]
        return [(row["stage"], row["state"]) for row in rows]

    def notes(self, slug: str) -> list[str]:
        return [str(row["note"]) for row in self._rows(slug)]

    def _rows(self, slug: str) -> list[dict[str, Any]]:
        dataset = self.dataset(slug)["id"]
        rows = [dict(row) for row in self.client.pages("api/statuses/", dataset=str(dataset))]
        return sorted(rows, key=lambda row: row["id"])

    def files(self, slug: str) -> dict[str, bytes]:
        """Every object of the dataset below its base path, Crunch's own left out."""
        prefix = f"{self.dataset(slug)['base_file_path']}/"
        paths = [info.key.removeprefix(prefix) for info in self.storage.list_objects(prefix)]
        return {path: self.storage.read(prefix + path) for path in paths if not path.startswith(".crunch/")}

    def read(self, slug: str, path: str) -> bytes:
        return self.storage.read(f"{self.dataset(slug)['base_file_path']}/{path}")

    def read_json(self, slug: str, path: str) -> Any:
        return json.loads(self.read(slug, path))


# Made once a site: each that is made anew loads certificates, and a test asks some hundred times.


@functools.lru_cache(maxsize=4)
def _storage(settings: Path) -> Storage:
    return open_storage(load_storage_settings(settings))


@functools.lru_cache(maxsize=4)
def _client(url: str, token: str) -> CrunchClient:
    return CrunchClient(url, token, patience_s=5)


GOOD_RUN = [(stage, state) for stage in (1, 2, 3) for state in (1, 2)]
"""The six statuses of a run without a failure."""


def until(condition: Callable[[], Any], timeout_s: float = 60, what: str = "the condition") -> Any:
    """Wait until `condition` returns something true, and return that."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        found = condition()
        if found:
            return found
        time.sleep(0.1)
    raise AssertionError(f"{what} did not come true in {timeout_s} s")


def interrupt_twice(loop: Running) -> None:
    """Ctrl-C, and once more when the loop has told what the first one does."""
    said = loop.stderr
    assert said is not None
    loop.send_signal(signal.SIGINT)
    until(lambda: "Ctrl-C again" in said.readline(), what="the word on it")
    loop.send_signal(signal.SIGINT)
