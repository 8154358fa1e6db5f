"""What still lives of a dead run: found by a mark in its environment, and killed.

The supervisor ends all that a workflow leaves behind. Where it was killed itself, alone or together with the client
(`pkill -9`, the kernel when memory runs out, a batch system), this finds the rest: all that a workflow starts inherits
CRUNCH_WORKSPACE, wherever it went. It does not find processes that cleared their environment, nor those of another
user, machine or container.
"""

from __future__ import annotations

import contextlib
import os
import time

import psutil

from crunch_tasks.compute import supervisor
from crunch_tasks.compute.environment import WORKSPACE
from crunch_tasks.errors import WorkspaceError

SUPERVISOR_S = 15.0
"""What a supervisor without its client may take, in seconds, to end the workflow, before it is killed itself."""
LOOK_S = 0.05


def end_leftovers(workspace: str) -> int:
    """Kill every process of the workflows of the workspace with this mark, and return when none is left.

    A supervisor comes last: it knows also descendants without the mark. Returns how many were found, raises
    WorkspaceError when some do not die.
    """
    began = time.monotonic()
    seen: set[int] = set()
    # Again and again: a process may fork between the look at the table and the signal.
    while found := _marked(workspace):
        seen.update(one.pid for one in found)
        waited_s = time.monotonic() - began
        if waited_s > SUPERVISOR_S + supervisor.KILL_PATIENCE_S:
            pids = ", ".join(str(one.pid) for one in found)
            raise WorkspaceError(
                f"Processes of an earlier run in {workspace} do not die: {pids}. End them, or restart the machine."
            )
        for one in found:
            with contextlib.suppress(psutil.Error):
                if waited_s > SUPERVISOR_S or supervisor.__file__ not in one.cmdline():
                    one.kill()
        psutil.wait_procs(found, timeout=LOOK_S)
    return len(seen)


def _marked(workspace: str) -> list[psutil.Process]:
    """The living processes, but for this one, that belong to a workflow of this workspace."""
    found = []
    for one in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            is_ours = one.pid != os.getpid() and one.environ().get(WORKSPACE) == workspace
            if is_ours and one.status() != psutil.STATUS_ZOMBIE:
                found.append(one)
    return found
