"""Commands and what they leave behind: all of it ends with the command, the check, or the client."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from pathlib import Path

import psutil
import pytest

from crunch_tasks import contract
from crunch_tasks.compute import process, supervisor
from crunch_tasks.compute.diagnostics import diagnostics
from crunch_tasks.errors import LeaseLost, WorkflowFailed, WorkspaceError

MARK = "CRUNCH_WORKSPACE"


class Commands:
    """Runs shell text, and finds what is left of it by a mark in the environment."""

    def __init__(self, folder):
        self.folder = folder
        self.log = folder / "log"
        self.mark = str(folder)

    def __call__(self, text, *, check=lambda: None, timeout_s=None, **more):
        env = {**os.environ, MARK: self.mark}
        argv = ["/bin/bash", "-c", text] if isinstance(text, str) else text
        options = {"grace_s": 0.5, **more}
        return process.run(argv, cwd=self.folder, env=env, log=self.log, timeout_s=timeout_s, check=check, **options)

    def survivors(self):
        found = []
        for one in psutil.process_iter():
            try:
                if one.environ().get(MARK) == self.mark and one.status() != psutil.STATUS_ZOMBIE:
                    found.append(one)
            except psutil.Error:
                continue
        return found

    def supervisors(self):
        found = []
        for one in self.survivors():
            with contextlib.suppress(psutil.Error):
                if supervisor.__file__ in one.cmdline():
                    found.append(one)
        return found


@pytest.fixture
def commands(tmp_path):
    return Commands(tmp_path)


def test_the_log_has_both_streams_in_order_after_what_was_there(commands):
    commands.log.write_text("earlier\n")
    outcome = commands("echo one; echo two >&2; echo three")
    assert outcome.ok
    assert outcome.log_tail == "one\ntwo\nthree\n"
    assert commands.log.read_text() == "earlier\none\ntwo\nthree\n"


def test_what_a_command_left_running_ends_with_it(commands):
    # One in the background, one that left session and group, one whose parent is gone, one that ignores SIGTERM.
    outcome = commands(
        "sleep 600 & setsid sleep 600 & (setsid bash -c 'sleep 600 & sleep 600' &) & "
        "(trap '' TERM; touch ready; while :; do sleep 600; done) & "
        "until [ -e ready ]; do sleep 0.01; done; exit 7"
    )
    assert outcome.returncode == 7
    assert outcome.survivors == 0
    assert commands.survivors() == []


def test_a_time_limit_ends_all_of_it(commands):
    outcome = commands("trap '' TERM; echo begun; setsid sleep 600 & sleep 600; sleep 600", timeout_s=0.3)
    assert outcome.timed_out
    assert not outcome.ok
    assert outcome.log_tail == "begun\n"
    assert commands.survivors() == []


@pytest.mark.parametrize("error", [LeaseLost(), KeyboardInterrupt(), SystemExit(143)])
def test_what_check_raises_ends_all_of_it_and_passes_on(commands, error):
    def check():
        if (commands.folder / "begun").exists():
            raise error

    with pytest.raises(type(error)):
        commands("setsid sleep 600 & touch begun; sleep 600", check=check)
    assert commands.survivors() == []


def test_a_command_may_tidy_up_when_it_is_ended(commands):
    outcome = commands("trap 'echo tidied; exit 0' TERM; touch begun; while :; do sleep 0.05; done", timeout_s=1)
    assert outcome.timed_out
    assert outcome.log_tail.endswith("tidied\n")


def test_signals_have_their_usual_meaning_in_the_command(commands):
    text = "import signal; print([signal.getsignal(n) is signal.SIG_DFL for n in (1, 3, 15, 17)])"
    assert commands([sys.executable, "-c", text]).log_tail == "[True, True, True, True]\n"
    ignored = Path("/proc/self/status").read_text().partition("SigIgn:\t")[2].split()[0]
    shell = commands("grep SigIgn /proc/self/status").log_tail.split()[1]
    assert int(shell, 16) & ~int(ignored, 16) == 0
    assert not int(shell, 16) & (1 << (signal.SIGPIPE - 1))


def test_no_file_of_ours_is_open_in_the_command(commands):
    assert commands("exec ls /proc/self/fd").log_tail.split() == ["0", "1", "2", "3"]  # 3: the listing itself


def test_the_supervisor_outlives_the_signals_of_a_batch_system(commands):
    def check():
        if not (commands.folder / "begun").exists():
            return
        for one in commands.supervisors():
            one.send_signal(signal.SIGTERM)
            one.send_signal(signal.SIGINT)
            (commands.folder / "sent").touch()

    text = "touch begun; until [ -e sent ]; do sleep 0.01; done; echo through"
    assert commands(text, check=check).log_tail == "through\n"


def test_a_killed_supervisor_is_told_and_the_command_ends_too(commands):
    def check():
        if (commands.folder / "begun").exists():
            for one in commands.supervisors():
                one.kill()

    with pytest.raises(WorkflowFailed, match="SIGKILL"):
        commands("setsid -f bash -c 'trap \"\" TERM; sleep 600; sleep 600'; touch begun; sleep 600", check=check)
    assert commands.survivors() == []


@pytest.mark.parametrize("argv", [["/none/such"], ["/etc/passwd"]])
def test_a_command_that_cannot_start_is_told(commands, argv):
    with pytest.raises(WorkflowFailed, match=r"cannot be started: (No such file|Permission denied)"):
        commands(argv)


def test_a_log_through_a_link_is_refused(commands):
    commands.log.symlink_to(commands.folder / "elsewhere")
    with pytest.raises(WorkspaceError, match="log"):
        commands("true")
    assert not (commands.folder / "elsewhere").exists()


def test_a_full_disk_does_not_stop_the_watch(commands):
    commands.log = Path("/dev/full")
    outcome = commands("echo lost; exit 4")
    assert outcome.returncode == 4
    assert "No space left" in outcome.log_error


def test_a_long_log_keeps_its_beginning_and_its_end(commands):
    peaks = []

    def measure():
        for one in commands.supervisors():
            status = Path(f"/proc/{one.pid}/status").read_text()
            peaks.append(int(status.partition("VmHWM:")[2].split()[0]))
        if (commands.folder / "filled").exists():
            (commands.folder / "measured").touch()

    outcome = commands(
        "echo first line; yes 0123456789abcdef | head -c 150000000; echo; echo the last line; "
        "touch filled; until [ -e measured ]; do sleep 0.01; done",
        check=measure,
    )
    assert outcome.log_tail.endswith("\nthe last line\n")
    with commands.log.open("rb") as file:
        assert file.readline() == b"first line\n"
        file.seek(supervisor.LOG_HEAD)
        assert b"bytes of output left out" in file.read(100)
    size = commands.log.stat().st_size
    assert supervisor.LOG_HEAD < size < supervisor.LOG_HEAD + supervisor.LOG_TAIL + 100
    assert max(peaks) < 40_000  # KiB


def test_diagnostics_are_what_the_wire_has_room_for(tmp_path):
    found = diagnostics(tmp_path)
    assert {name: type(value) for name, value in found.items()}.items() <= contract.DIAGNOSTICS.items()
    assert {"agent_user", "version", "hostname", "memory_total", "disk_free"} <= found.keys()
    assert "disk_free" not in diagnostics(tmp_path / "missing")
