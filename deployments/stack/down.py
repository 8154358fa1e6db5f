"""Stop a stack: the worker first, so that what it processes is given back while there is a server to tell."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable

from deployments.stack.folder import StackFolder, StackSettings
from deployments.stack.process import Record, end, end_flow_runs, end_session, recorded
from deployments.stack.services import Stack

ORDER = {"worker": "Prefect worker", "crunch": "Crunch server", "prefect": "Prefect server", "postgres": "PostgreSQL"}
"""What may run, also after the settings changed, in the order in which it is stopped."""


def down(folder: StackFolder, say: Callable[[str], None]) -> list[str]:
    """Stop all that runs; the names of what did, in the order in which it was stopped."""
    if not folder.run.is_dir():
        return []
    stopped = []
    with folder.locked(say):
        stack = Stack(folder, folder.load() or StackSettings())
        for key, name in ORDER.items():
            path = stack.record(key)
            record = recorded(path)
            if record is None:
                continue
            say(f"Stopping the {name}")
            if record.is_alive:
                stopped.append(name)
                _stop(key, record, folder)
            else:
                end_session(record, folder.prefect)
            if key == "worker":
                # Those of a worker that was killed go on without it.
                end_flow_runs(folder.prefect)
            path.unlink(missing_ok=True)
    return stopped


def _stop(key: str, record: Record, folder: StackFolder) -> None:
    if key == "postgres":
        # It closes its connections then, instead of waiting for their ends.
        end(record, folder.prefect, sign=signal.SIGINT)
        return
    if key == "worker":
        # Told to stop, a worker kills its flow runs. Held still, it starts none while they give their datasets back.
        with contextlib.suppress(ProcessLookupError):
            os.kill(record.pid, signal.SIGSTOP)
            try:
                end_flow_runs(folder.prefect)
            finally:
                os.kill(record.pid, signal.SIGCONT)
    end(record, folder.prefect)
