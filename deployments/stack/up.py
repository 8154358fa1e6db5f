"""Start what is missing of a stack, and make what it needs the first time. When that fails, nothing new is left on."""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from crunch_tasks.errors import CrunchError, SettingsError, UsageError
from crunch_tasks.files.opening import open_storage
from crunch_tasks.files.storage import check_reachable
from crunch_tasks.machine import available_cores
from crunch_tasks.storage_settings import load_storage_settings
from deployments.local import Service, bare_environment, folder_storage, last_lines, manage
from deployments.stack import databases
from deployments.stack.admin import add_admin, take_password
from deployments.stack.folder import EMBEDDED, StackFolder, Wanted, decide, write_exports
from deployments.stack.process import end, end_flow_runs, end_session, recorded, remember, running
from deployments.stack.services import Part, Stack
from deployments.stack.taken import put_back, taken

MOST_AT_ONCE = 4
"""Flow runs at once of the worker, on a machine with that many processors: each takes some 200 MB by itself."""
FULL_BYTES = 10_000_000
"""With less free than that no service can begin: each makes a database, or writes into one."""
Say = Callable[[str], None]


@dataclass
class Outcome:
    """What `up` did: which services it started, and the password of the first user, if nobody was shown it yet.

    `is_first`: none before it came to its end, so what runs already may not be set up yet.
    """

    stack: Stack
    is_first: bool
    started: list[str] = field(default_factory=list)
    password: str = ""


def up(folder: StackFolder, wanted: Wanted, say: Say) -> Outcome:
    """Have the whole stack run. Raises UsageError for what was asked, CrunchError for a service that does not start."""
    folder.make()
    with _told_of_a_full_disk(folder.path), folder.locked(say):
        kept = folder.in_force()
        stack = Stack(folder, decide(kept, wanted))
        if stack.settings.database not in ("", EMBEDDED):
            databases.check_address(stack.settings.database)
        missing = [part for part in stack.parts() if not running(stack.record(part.key))]
        _check_running(stack, Stack(folder, kept or stack.settings), missing)
        _check_storage(stack)
        outcome = Outcome(stack, is_first=folder.load() is None)
        with ExitStack() as undo:
            if outcome.is_first:
                # For the next one, if this one is killed: what it started runs on, with these.
                folder.save_begun(stack.settings)
                if kept is None:
                    undo.callback(folder.forget_begun)
            _start({part.key: part for part in missing}, outcome, undo, say)
            # Not before: an `up` that came to nothing, with a wrong address of a database, decides nothing.
            folder.save(outcome.stack.settings)
            undo.pop_all()
        outcome.password = take_password(outcome.stack)
    return outcome


@contextmanager
def _told_of_a_full_disk(folder: Path) -> Iterator[None]:
    """What fails says so where the disk is full: a service's last words, of a file that it cannot write, rarely do."""
    try:
        yield
    except UsageError:
        raise
    except (CrunchError, OSError) as error:
        free = shutil.disk_usage(folder).free
        if free >= FULL_BYTES:
            raise
        raise CrunchError(
            f"The disk of {folder} is full: {free} bytes are free. Make room, or choose another with --data.\n{error}"
        ) from error


def _start(missing: dict[str, Part], outcome: Outcome, undo: ExitStack, say: Say) -> None:
    stack = outcome.stack
    if "postgres" in missing:
        say("Starting PostgreSQL")
        _remember(stack, missing["postgres"], databases.start_embedded(stack.folder.postgres), undo, signal.SIGINT)
    if stack.settings.database:
        databases.make_databases(stack.database_url)
    prefect = stack.prefect_service()
    if "prefect" in missing:
        say("Starting the Prefect server")
        _begin(stack, missing["prefect"], prefect, undo)
    crunch = stack.crunch_service()
    if "crunch" in missing:
        say("Preparing the Crunch server's database")
        manage(stack.server_environment, "migrate", "--verbosity", "0")
        _begin(stack, missing["crunch"], crunch, undo)
    if "crunch" in missing or outcome.is_first:
        outcome.stack = add_admin(stack)
        say("Waiting for the Crunch server")
        crunch.wait()
    # Made again each time: a port may be another one than before.
    write_exports(stack.folder.client_env, outcome.stack.client_environment)
    write_exports(stack.folder.server_env, outcome.stack.server_environment)
    if "prefect" in missing or outcome.is_first:
        say("Waiting for the Prefect server, which takes up to a minute the first time")
        prefect.wait()
        _register(outcome.stack, say)
    if "worker" in missing:
        _take_back(outcome.stack)
        worker = outcome.stack.worker_service(min(MOST_AT_ONCE, available_cores()), datetime.now(UTC))
        _begin(stack, missing["worker"], worker, undo)
        say("Waiting for the Prefect worker")
        worker.wait()
    outcome.started = [part.name for part in missing.values()]


def _take_back(stack: Stack) -> None:
    """Put back what a worker that was killed, or a machine that went down, had taken and not begun."""
    left = taken(stack)
    end_flow_runs(stack.folder.prefect, only=left)
    put_back(stack, left)


def _begin(stack: Stack, part: Part, service: Service, undo: ExitStack) -> None:
    """Start the service, after the end of what a dead one may have left."""
    if dead := recorded(stack.record(part.key)):
        end_session(dead, stack.folder.prefect)
    _remember(stack, part, service.start(), undo, signal.SIGTERM)


def _remember(stack: Stack, part: Part, pid: int, undo: ExitStack, sign: int) -> None:
    path = stack.record(part.key)
    record = remember(path, pid)

    def take_back() -> None:
        end(record, stack.folder.prefect, sign=sign)
        path.unlink(missing_ok=True)

    undo.callback(take_back)


def _check_running(stack: Stack, before: Stack, missing: list[Part]) -> None:
    """Raises UsageError for a port that another program has, and for what cannot change while a service runs."""
    if not stack.settings.worker and running(stack.record("worker")):
        raise UsageError("The Prefect worker runs. To go on without it, `crunch down` first.")
    absent = {part.key for part in missing}
    ports = {part.key: part.port for part in before.parts()}
    for part in (part for part in stack.parts() if part.port):
        if part.key in absent and not _is_free(stack, part):
            raise UsageError(f"Port {part.port} of the {part.name} is taken. Choose another with {part.option}.")
        if part.key not in absent and part.port != ports[part.key]:
            raise UsageError(
                f"The {part.name} runs at port {ports[part.key]}. For another {part.option}, `crunch down` first."
            )


def _is_free(stack: Stack, part: Part) -> bool:
    if dead := recorded(stack.record(part.key)):
        end_session(dead, stack.folder.prefect)
    with socket.socket() as probe:
        # As servers do: connections of an earlier one that are closing keep nobody out.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", part.port))
        except OSError:
            return False
    return True


def _check_storage(stack: Stack) -> None:
    """Raises SettingsError when its settings are wrong, or it does not answer."""
    if not stack.settings.storage_settings:
        folder_storage(stack.folder.storage_settings, stack.folder.files)
    try:
        check_reachable(open_storage(load_storage_settings(stack.storage_settings)))
    except SettingsError:
        raise
    except CrunchError as error:
        raise SettingsError(f"{stack.storage_settings}: {error}") from error


def _register(stack: Stack, say: Say) -> None:
    say("Registering the deployments")
    done = subprocess.run(
        [sys.executable, "-m", "deployments.stack.registration"],
        env={**bare_environment(), **stack.client_environment, "PREFECT_LOGGING_LEVEL": "ERROR"},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise CrunchError(f"Prefect does not take the deployments:\n{last_lines(done.stderr)}")
