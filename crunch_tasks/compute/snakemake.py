"""Snakemake as a child process: its command, its progress, and what a failure says.

Not through Snakemake's Python API, which changes the process's working directory and signal handlers.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import stat
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from crunch_tasks.compute.notes import failure_note
from crunch_tasks.compute.process import read_tail, run
from crunch_tasks.errors import WorkflowFailed, WorkspaceError

RULE_LOG_BYTES = 2048
RULES_SHOWN = 3
UNLOCK_TIMEOUT_S = 120.0

Progress = Callable[[int, int, str], None]
"""Called with steps done, steps in all, and the rule that started last."""


def snakemake_command(snakefile: Path, directory: Path, cores: int, events: Path) -> list[str]:
    """The command that runs `snakefile` in `directory`, its events appended to the file `events` as JSON lines."""
    return [
        *_snakemake(snakefile, directory),
        "--cores",
        str(cores),
        # What was being made when an earlier run died is half: make it again.
        "--rerun-incomplete",
        "--printshellcmds",
        "--nocolor",
        "--logger",
        "crunch",
        "--logger-crunch-events",
        str(events.absolute()),
    ]


def _snakemake(snakefile: Path, directory: Path) -> list[str]:
    # -P: a dataset's file named json.py must not become a module of Snakemake.
    command = [sys.executable, "-P", "-m", "snakemake"]
    return [*command, "--snakefile", str(snakefile.absolute()), "--directory", str(directory.absolute())]


def is_locked(directory: Path) -> bool:
    """Whether Snakemake's lock on `directory` is set, as a killed run leaves it."""
    locks = directory / ".snakemake" / "locks"
    return locks.is_dir() and any(locks.iterdir())


Span = tuple[float, float]
"""When a job began and ended, as `time.time`; infinite where nobody told of its end."""


def whole_before(spans: Sequence[Span], moment: float = math.inf) -> float:
    """The last moment, up to `moment`, before which no job had begun that ended after it or never; a `time.time`.

    What lay in the workspace at that moment was whole, and what came after it may be half, or what a job would still
    have removed.
    """
    while across := [began for began, ended in spans if began < moment <= ended]:
        moment = min(across)
    return moment


def job_spans(events: Path) -> list[Span]:
    """The jobs of a run that ended in whatever way; `events` is the file of its events."""
    began: dict[int, float] = {}
    spans = []
    try:
        lines = events.read_bytes().splitlines()
    except FileNotFoundError:
        return []
    for line in lines:
        # The last one may be torn.
        with contextlib.suppress(ValueError):
            match json.loads(line):
                case {"event": "job_started", "time": float(time), "jobs": [*jobs]}:
                    began.update(dict.fromkeys(jobs, time))
                case {"event": "job_finished", "time": float(time), "job_id": job} if job in began:
                    spans.append((began.pop(job), time))
    return [*spans, *((time, math.inf) for time in began.values())]


class Events:
    """Reads the events of the logger plugin while Snakemake runs, and keeps what progress and a failure need."""

    def __init__(self, path: Path, progress: Progress | None = None) -> None:
        self.path = path
        self.progress = progress
        self.rule = ""
        self.failed: list[dict[str, Any]] = []
        self.errors: list[str] = []
        self._offset = 0
        self._steps = (0, 0)

    def poll(self) -> None:
        """Take in what was appended since the last call."""
        try:
            with self.path.open("rb") as file:
                file.seek(self._offset)
                data = file.read()
        except FileNotFoundError:
            return
        complete = data[: data.rfind(b"\n") + 1]
        self._offset += len(complete)
        before = (*self._steps, self.rule)
        for line in complete.splitlines():
            # Progress is a courtesy: a line that something else wrote must not end the run.
            with contextlib.suppress(ValueError):
                self._take(json.loads(line))
        after = (*self._steps, self.rule)
        if self.progress is not None and after != before:
            self.progress(*after)

    def _take(self, event: Any) -> None:
        match event:
            case {"event": "run_info", "stats": {"total": int(total)}}:
                self._steps = (0, total)
            case {"event": "job_info", "rule_name": str(rule)}:
                self.rule = rule
            case {"event": "progress", "done": int(done), "total": int(total)}:
                self._steps = (done, total)
            case {"event": "job_error"}:
                self.failed.append(event)
            case {"event": "error", "message": str(message)}:
                self.errors.append(message)

    def details(self, directory: Path) -> str:
        """What failed: each rule with its log's end, and Snakemake's own words where it is not about a rule."""
        parts = []
        for event in self.failed[:RULES_SHOWN]:
            parts.append(f"Rule {event.get('rule_name')} failed.")
            for name in event.get("log") or []:
                tail = _tail_of(directory / name)
                if tail:
                    parts.append(f"End of its log {name}:\n{tail}")
        if len(self.failed) > RULES_SHOWN:
            more = sorted({str(event.get("rule_name")) for event in self.failed[RULES_SHOWN:]})
            parts.append(f"More failed rules: {', '.join(more)}.")
        parts += [message for message in self.errors[:RULES_SHOWN] if message.strip()]
        return "\n".join(parts)


def _tail_of(path: Path) -> str:
    """The end of a rule's log; empty when it is no regular file."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return ""
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            return ""
        return read_tail(fd, limit=RULE_LOG_BYTES).decode("utf-8", "replace").strip()
    finally:
        os.close(fd)


def run_snakemake(
    snakefile: Path,
    *,
    directory: Path,
    cores: int,
    env: Mapping[str, str],
    log: Path,
    events: Path,
    timeout_s: float | None,
    check: Callable[[], None],
    progress: Progress | None = None,
) -> None:
    """Run `snakefile` in `directory` to its end; see `process.run` for the rest.

    The caller holds the workspace's lock, so a lock of Snakemake's that is found there is a dead run's and is removed.
    Rules that an earlier run finished are not run again. Raises WorkflowFailed, whose message is the note of the Fail,
    unless Snakemake ends with exit code 0 in time.
    """
    try:
        events.parent.mkdir(parents=True, exist_ok=True)
        events.unlink(missing_ok=True)
    except OSError as error:
        raise WorkspaceError(f"The file {events} cannot be written: {error.strerror}.") from error
    if is_locked(directory):
        # Its failure, for example by a syntax error, is told by the run itself.
        unlock = [*_snakemake(snakefile, directory), "--unlock"]
        run(unlock, cwd=directory, env=env, log=log, timeout_s=UNLOCK_TIMEOUT_S, check=check)
    seen = Events(events, progress)
    argv = snakemake_command(snakefile, directory, cores, events)
    outcome = run(argv, cwd=directory, env=env, log=log, timeout_s=timeout_s, check=check, poll=seen.poll)
    if not outcome.ok:
        raise WorkflowFailed(failure_note("Snakemake", outcome, timeout_s, seen.details(directory)))
