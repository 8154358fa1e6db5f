"""Stop a stack: the worker first, so that what it processes is given back while there is a server to tell."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable, Iterator

from deployments.stack.folder import StackFolder, StackSettings
from deployments.stack.process import Record, end, end_flow_runs, recorded
from deployments.stack.services import Stack
from deployments.stack.taken import put_back, taken

ORDER = {"worker": "Prefect worker", "crunch": "Crunch server", "prefect": "Prefect server", "postgres": "PostgreSQL"}
"""What may run, also after the settings changed, in the order in which it is stopped."""


def down(folder: StackFolder, say: Callable[[str], None]) -> list[str]:
    """Stop all that runs; the names of what did, in the order in which it was stopped."""
    if not folder.run.is_dir():
        return []
    stopped = []
    with folder.locked(say):
        stack = Stack(folder, folder.load() or folder.load_begun() or StackSettings())
        for key, name in ORDER.items():
            path = stack.record(key)
            record = recorded(path)
            if record is None:
                continue
            say(f"Stopping the {name}")
            if record.is_alive:
                stopped.append(name)
            if key == "worker":
                _stop_worker(stack, record)
            else:
                # Told so, PostgreSQL closes its connections instead of waiting for their ends.
                end(record, folder.prefect, sign=signal.SIGINT if key == "postgres" else signal.SIGTERM)
            path.unlink(missing_ok=True)
        folder.forget_begun()
    return stopped


def _stop_worker(stack: Stack, record: Record) -> None:
    """Stop it and all flow runs, those too that go on after a worker that was killed."""
    home = stack.folder.prefect
    # Told to stop, a worker kills its flow runs. Held still, it starts none while they give their datasets back.
    with _held_still(record):
        left = taken(stack)
        end_flow_runs(home)
    end(record, home)
    end_flow_runs(home)
    # As it ends, it may have called crashed what it was about to start.
    put_back(stack, taken(stack) | left)


@contextlib.contextmanager
def _held_still(record: Record) -> Iterator[None]:
    if not record.is_alive:
        yield
        return
    with contextlib.suppress(ProcessLookupError):
        os.kill(record.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(record.pid, signal.SIGCONT)
