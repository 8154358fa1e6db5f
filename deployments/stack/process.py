"""Processes that outlive the command that started them: which one is ours, and how it ends.

A record holds the pid and when that process was born. A pid alone would be taken, after a restart of the machine or a
day of much work, for whatever process has it then.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import time
from collections.abc import Collection
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

from crunch_tasks.durable import write_durably

STOP_S = 30.0
"""How long a process may take to end after SIGTERM, in seconds: a client needs up to 25 to give its dataset back."""
LOOK_S = 0.05


@dataclass(frozen=True)
class Record:
    """A process that was started: `birth` tells it from a later one with its pid, `since` is for people (Unix time)."""

    pid: int
    birth: str
    since: float

    @property
    def is_alive(self) -> bool:
        return bool(self.birth) and birth(self.pid) == self.birth


def birth(pid: int) -> str:
    """When the process was born, as one that no other process with this pid has; "" when there is none.

    Ticks since the machine started: clock time is computed from that, and changes when the clock is set.
    """
    try:
        fields = Path(f"/proc/{pid}/stat").read_text("utf-8", errors="replace").rpartition(")")[2].split()
        boot = Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
    except OSError:
        return ""
    # The state, the third field of proc(5), is the first after the name; the time of the start is the 22nd.
    return "" if fields[0] in "ZX" else f"{boot}/{fields[19]}"


def remember(path: Path, pid: int) -> Record:
    """Write down that the process is the one of `path`."""
    record = Record(pid, birth(pid), time.time())
    write_durably(path, json.dumps(asdict(record)).encode(), 0o600)
    return record


def recorded(path: Path) -> Record | None:
    """What was last started, alive or not; None for nothing, and for a record that says nothing."""
    try:
        return Record(**json.loads(path.read_text("utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def running(path: Path) -> Record | None:
    """The living process of the record."""
    record = recorded(path)
    return record if record is not None and record.is_alive else None


def end(record: Record, home: Path, *, sign: int = signal.SIGTERM) -> None:
    """End the process and what it left in its session, by force after STOP_S; returns when they are gone."""
    deadline = time.monotonic() + STOP_S
    if record.is_alive:
        with contextlib.suppress(ProcessLookupError):
            os.kill(record.pid, sign)
    while record.is_alive and time.monotonic() < deadline:
        time.sleep(LOOK_S)
    if record.is_alive:
        with contextlib.suppress(ProcessLookupError):
            os.kill(record.pid, signal.SIGKILL)
    end_session(record, home)


def end_session(record: Record, home: Path) -> None:
    """Kill what a dead process left in its session: children of a server that was killed hold its port."""
    if record.birth and birth(record.pid) not in ("", record.birth):
        # The pid is another's now, which it could not be while anything of its session lived.
        return
    left = [one for one in of_stack(home) if _session(one.pid) == record.pid]
    for one in left:
        with contextlib.suppress(psutil.Error):
            one.kill()
    psutil.wait_procs(left, timeout=STOP_S)


def end_flow_runs(home: Path, only: Collection[str] | None = None) -> None:
    """Ask the processes of flow runs (of those with these ids `only`), each in a session of its own, to end, and wait
    for it; by force after STOP_S.
    """
    deadline = time.monotonic() + STOP_S
    asked: set[int] = set()
    while found := [one for one in of_stack(home) if (run := _flow_run(one)) and (only is None or run in only)]:
        for one in found:
            with contextlib.suppress(psutil.Error):
                if time.monotonic() > deadline:
                    one.kill()
                elif one.pid not in asked:
                    one.terminate()
        asked.update(one.pid for one in found)
        time.sleep(LOOK_S)


def of_stack(home: Path) -> list[psutil.Process]:
    """The living processes that have `home` as their PREFECT_HOME, but for this one."""
    found = []
    for one in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            is_ours = one.pid != os.getpid() and one.environ().get("PREFECT_HOME") == str(home)
            if is_ours and one.status() != psutil.STATUS_ZOMBIE:
                found.append(one)
    return found


def _flow_run(process: psutil.Process) -> str:
    """The id of the flow run whose engine this is, or "": the workflow below it inherits the environment, and ends with
    its client.
    """
    with contextlib.suppress(psutil.Error):
        if any(word.startswith("prefect.") for word in process.cmdline()):
            return process.environ().get("PREFECT__FLOW_RUN_ID", "")
    return ""


def _session(pid: int) -> int:
    try:
        return os.getsid(pid)
    except ProcessLookupError:
        return 0
