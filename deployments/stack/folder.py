"""The stack's data folder: where everything in it is, who may be at work in it, and what it was set up with."""

from __future__ import annotations

import dataclasses
import fcntl
import json
import os
import shlex
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from crunch_tasks.durable import write_durably
from crunch_tasks.errors import SettingsError, UsageError
from deployments.local import ONLY_MINE
from deployments.stack.process import running

EMBEDDED = "embedded"
"""As the stack's database: a PostgreSQL in the data folder."""


@dataclass(frozen=True)
class StackSettings:
    """How a stack is set up; kept in its folder, since `database` may hold a password and `token` is one."""

    port: int = 8000
    prefect_port: int = 4200
    worker: bool = True
    storage_settings: str = ""
    """The storage settings file; "" is a folder of the stack's own."""
    database: str = ""
    """"" is SQLite, else EMBEDDED or the address of a PostgreSQL database."""
    token: str = ""
    """The client's, once there is a user; "" before."""


@dataclass(frozen=True)
class Wanted:
    """What the options of `crunch up` say; None where there was none."""

    port: int | None = None
    prefect_port: int | None = None
    worker: bool | None = None
    storage_settings: str | None = None
    database: str | None = None


def decide(kept: StackSettings | None, wanted: Wanted) -> StackSettings:
    """The settings to go on with. Raises UsageError for what cannot change once there are datasets, or cannot be.

    option             first time   later
    port, prefect_port taken        taken: `up` refuses while the service runs at another one
    worker             taken        taken
    storage, database  taken        must be as it was
    """
    given = {name: value for name, value in dataclasses.asdict(wanted).items() if value is not None}
    if kept is not None:
        for name, words in (("storage_settings", "storage"), ("database", "database")):
            if name in given and given[name] != getattr(kept, name):
                raise UsageError(
                    f"The stack in this data folder was made with another {words}, and its datasets are there. "
                    f"Leave the option for the {words} out, or make another stack with --data."
                )
    made = dataclasses.replace(kept or StackSettings(), **given)
    if made.port == made.prefect_port:
        raise UsageError(f"--port and --prefect-port are both {made.port}. Give each server a port of its own.")
    return made


@dataclass(frozen=True)
class StackFolder:
    """The data folder. Others may pass through it, as an embedded PostgreSQL must under root, but read nothing.

    What is in it is for its owner only, but for PostgreSQL's folder, which is for PostgreSQL's user only.
    """

    path: Path

    @property
    def run(self) -> Path:
        """What runs: a record for each service, and the lock."""
        return self.path / "run"

    @property
    def logs(self) -> Path:
        return self.path / "logs"

    @property
    def server(self) -> Path:
        """The Crunch server's secret key and, with SQLite, its database."""
        return self.path / "server"

    @property
    def prefect(self) -> Path:
        """PREFECT_HOME of all that belongs to the stack, so that the user's own profiles stay as they are."""
        return self.path / "prefect"

    @property
    def postgres(self) -> Path:
        return self.path / "postgres"

    @property
    def work(self) -> Path:
        """The worker's `--directory`."""
        return self.path / "work"

    @property
    def files(self) -> Path:
        """The storage of a stack that was not given another."""
        return self.path / "files"

    @property
    def storage_settings(self) -> Path:
        """The file that names `files` as the storage."""
        return self.path / "storage.toml"

    @property
    def client_env(self) -> Path:
        """What a shell sources to use `crunch` and `prefect` with this stack."""
        return self.path / "client.env"

    @property
    def server_env(self) -> Path:
        """What a shell sources to use `python -m server` with this stack."""
        return self.path / "server.env"

    @property
    def passwords(self) -> Path:
        """The first user's password, by database, until it was shown."""
        return self.path / "passwords.json"

    @property
    def _settings(self) -> Path:
        return self.path / "stack.json"

    @property
    def _begun(self) -> Path:
        return self.path / "begun.json"

    def make(self) -> None:
        """Raises UsageError when it cannot be written to."""
        try:
            self.path.mkdir(0o711, parents=True, exist_ok=True)
            for folder in (self.run, self.logs, self.server, self.prefect, self.work, self.files):
                folder.mkdir(0o700, exist_ok=True)
                # One that is there already too. What services make in it has the mode that they give it.
                folder.chmod(0o700)
        except OSError as error:
            raise UsageError(
                f"The data folder {self.path} cannot be made: {error.strerror}. Choose another with --data."
            ) from error

    def load(self) -> StackSettings | None:
        """Those of the last `up` that came to its end. Raises SettingsError when the file is not as it was written."""
        return _read(self._settings)

    def save(self, settings: StackSettings) -> None:
        _write(self._settings, settings)
        self.forget_begun()

    def load_begun(self) -> StackSettings | None:
        """Those that a first `up` which did not come to its end began with. Raises SettingsError."""
        return _read(self._begun)

    def save_begun(self, settings: StackSettings) -> None:
        _write(self._begun, settings)

    def forget_begun(self) -> None:
        self._begun.unlink(missing_ok=True)

    def in_force(self) -> StackSettings | None:
        """Those of the last `up` that came to its end or, while something runs that a first one began, of that one.

        Raises UsageError when something runs and nobody knows with which settings, and SettingsError.
        """
        kept = self.load()
        if kept is not None or not any(map(running, self.run.glob("*.json"))):
            return kept
        if (begun := self.load_begun()) is None:
            raise UsageError(f"Something of {self.path} runs, and nobody knows how it was set up. `crunch down` first.")
        return begun

    @contextmanager
    def locked(self, say: Callable[[str], None]) -> Iterator[None]:
        """Alone at work in the folder; waits for another `crunch up` or `crunch down`."""
        with os.fdopen(os.open(self.run / "lock", os.O_RDWR | os.O_CREAT, ONLY_MINE)) as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                say(f"Waiting for another `crunch up` or `crunch down` in {self.path}")
                fcntl.flock(lock, fcntl.LOCK_EX)
            yield


def _read(path: Path) -> StackSettings | None:
    try:
        return StackSettings(**json.loads(path.read_text("utf-8")))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError) as error:
        raise SettingsError(f"{path} cannot be read: {error}. Put it right, or delete it.") from error


def _write(path: Path, settings: StackSettings) -> None:
    write_durably(path, json.dumps(dataclasses.asdict(settings), indent=2).encode(), ONLY_MINE)


def write_exports(path: Path, variables: Mapping[str, str]) -> None:
    """A file to be sourced by a shell, for its owner only: it holds a token or a password."""
    lines = [f"export {name}={shlex.quote(value)}\n" for name, value in variables.items()]
    write_durably(path, "".join(lines).encode(), ONLY_MINE)
