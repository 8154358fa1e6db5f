"""Run one command to its end, or end it: with a log, a time limit, and nothing left behind."""

from __future__ import annotations

import ast
import contextlib
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from crunch_tasks.compute import supervisor
from crunch_tasks.compute.environment import WORKSPACE
from crunch_tasks.compute.leftovers import end_leftovers
from crunch_tasks.crash import Point, reached
from crunch_tasks.errors import WorkflowFailed, WorkspaceError
from crunch_tasks.escapes import without_escapes

POLL_S = 0.2
GRACE_S = 8.0
"""From SIGTERM to SIGKILL, in seconds."""
REPORT_S = 10.0
"""What the supervisor may take, in seconds, to tell of the end; one that was stopped is killed then."""
TAIL_BYTES = 32 * 1024
"""How much of the log's end an Outcome holds."""


@dataclass(frozen=True)
class Outcome:
    """How a command ended: `returncode`, or else the `signal` that ended it; `log_tail` is the end of its output."""

    returncode: int | None
    signal: int | None
    timed_out: bool
    log_tail: str
    survivors: int = 0
    log_error: str = ""

    @property
    def ok(self) -> bool:
        return self.returncode == 0 and not self.timed_out


def run(
    argv: Sequence[str],
    *,
    cwd: Path,
    env: Mapping[str, str],
    log: Path,
    timeout_s: float | None,
    check: Callable[[], None],
    poll: Callable[[], None] | None = None,
    grace_s: float = GRACE_S,
) -> Outcome:
    """Run `argv` in `cwd` with `env` and no input; its output, stdout and stderr, is appended to `log`.

    `check` and `poll` are called about five times a second. Whatever `check` raises (a lost lease, a cancel, Ctrl-C,
    SIGTERM made an exception) ends the command with all its descendants and passes on. The same end comes after
    `timeout_s` seconds, when the command ended and left processes behind, and when this process dies.
    Raises WorkflowFailed when the command cannot be started, WorkspaceError when the log cannot be written.
    """
    log_fd = open_log(log)
    try:
        log_start = os.fstat(log_fd).st_size
        with _Supervised(argv, cwd, env, log_fd, grace_s) as child:
            reached(Point.WORKFLOW_STARTED)
            timed_out = child.wait(timeout_s, check, poll)
            report = child.end()
        if poll is not None:
            poll()
        return Outcome(
            report["returncode"],
            report["signal"],
            timed_out,
            without_escapes(read_tail(log_fd, log_start).decode("utf-8", "replace")),
            report["survivors"],
            report["log_error"],
        )
    finally:
        os.close(log_fd)


def open_log(log: Path) -> int:
    """Open `log` for appending and reading, its folders made, through no link. Raises WorkspaceError."""
    try:
        log.parent.mkdir(parents=True, exist_ok=True)
        return os.open(log, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise WorkspaceError(f"The log {log} cannot be written: {error.strerror}.") from error


def read_tail(fd: int, start: int = 0, limit: int = TAIL_BYTES) -> bytes:
    """The last `limit` bytes of an open file, none before `start`."""
    size = os.fstat(fd).st_size
    begin = max(start, size - limit)
    return os.pread(fd, max(0, size - begin), begin)


class _Supervised:
    """A command under its supervisor; leaving the context ends whatever still lives."""

    def __init__(self, argv: Sequence[str], cwd: Path, env: Mapping[str, str], log_fd: int, grace_s: float) -> None:
        self.mark = env.get(WORKSPACE, "")
        self.grace_s = grace_s
        self.received = b""
        self.reports: list[dict[str, Any]] = []
        life, self.life = os.pipe()
        self.report_fd, report = os.pipe()
        passed = (life, report, log_fd)
        numbers = [str(fd) for fd in passed]
        launch = [sys.executable, "-I", "-S", "-c", supervisor.LAUNCH, supervisor.__file__]
        command = [*launch, *numbers, str(os.getpid()), str(grace_s), "--"]
        try:
            self.process = subprocess.Popen(
                [*command, *argv],
                cwd=cwd,
                env=dict(env),
                pass_fds=passed,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
        except OSError as error:
            os.close(self.life)
            os.close(self.report_fd)
            raise WorkflowFailed(f"The workflow cannot be started in {cwd}: {error.strerror}.") from error
        finally:
            os.close(life)
            os.close(report)

    def __enter__(self) -> _Supervised:
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self._end_tree()
            self.process.wait()
        finally:
            os.close(self.report_fd)

    def wait(self, timeout_s: float | None, check: Callable[[], None], poll: Callable[[], None] | None) -> bool:
        """Wait for the command's end, calling `check` and `poll`; True when `timeout_s` seconds were over first."""
        deadline = time.monotonic() + timeout_s if timeout_s is not None else float("inf")
        while not self._wait_report(POLL_S):
            check()
            if poll is not None:
                poll()
            if time.monotonic() >= deadline:
                return True
        return False

    def end(self) -> dict[str, Any]:
        """End what still runs and return the last report. Raises WorkflowFailed when the command never started."""
        self._end_tree()
        for report in self.reports:
            if "error" in report:
                raise WorkflowFailed(f"The workflow cannot be started: {report['error']}.")
        if not self._told_the_end:
            code = self.process.wait()
            raise WorkflowFailed(
                f"The process that watches the workflow ended early ({_ending(code)}), so the workflow was ended too. "
                "Memory may have run out."
            )
        return self.reports[-1]

    @property
    def _told_the_end(self) -> bool:
        return bool(self.reports) and "returncode" in self.reports[-1]

    def _end_tree(self) -> None:
        # From here on the supervisor ends everything by itself, also if a second Ctrl-C stops this wait.
        if self.life >= 0:
            os.close(self.life)
            self.life = -1
        if not self._wait_report(self.grace_s + supervisor.KILL_PATIENCE_S + REPORT_S):
            self.process.kill()
        if not self._told_the_end:
            self._end_without_supervisor()

    def _end_without_supervisor(self) -> None:
        for report in self.reports:
            with contextlib.suppress(KeyError, ProcessLookupError):
                os.killpg(report["started"], signal.SIGKILL)
        if self.mark:
            end_leftovers(self.mark)

    def _wait_report(self, timeout_s: float) -> bool:
        """Read reports until the last, for `timeout_s` seconds at most; True when it is there."""
        deadline = time.monotonic() + timeout_s
        while True:
            left = max(0.0, deadline - time.monotonic())
            if not select.select([self.report_fd], [], [], left)[0]:
                return False
            data = os.read(self.report_fd, 65536)
            if not data:
                return True
            *lines, self.received = (self.received + data).split(b"\n")
            self.reports += [ast.literal_eval(line.decode()) for line in lines]


def _ending(code: int) -> str:
    return signal.Signals(-code).name if code < 0 else f"exit code {code}"
