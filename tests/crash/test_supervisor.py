"""Client and supervisor are killed with SIGKILL, alone, together, with a group: nothing of the workflow survives."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import psutil
import pytest

from crunch_tasks.compute import supervisor
from crunch_tasks.compute.leftovers import end_leftovers
from tests.support.site import until

pytestmark = pytest.mark.slow

MARK = "CRUNCH_WORKSPACE"
CLIENT = """
import os, sys
from pathlib import Path
from crunch_tasks.compute.process import run
folder = Path(sys.argv[1])
run(["/bin/bash", "-c", sys.argv[2]], cwd=folder, env={**os.environ, "CRUNCH_WORKSPACE": sys.argv[1]},
    log=folder / "log", timeout_s=None, check=lambda: None, grace_s=0.5)
"""
# Shells, a process in its own session, an orphan of it, and one that does not listen to SIGTERM.
WORKFLOW = """
sleep 600 &
setsid sleep 600 &
setsid bash -c 'setsid sleep 600 & echo $! > orphan; exit' &
setsid bash -c 'trap "" TERM HUP INT; touch deaf; while :; do sleep 600; done' &
until [ -s orphan ] && [ -e deaf ]; do sleep 0.01; done
touch begun
wait
"""


def alive(mark):
    found = []
    for one in psutil.process_iter():
        try:
            if one.environ().get(MARK) == mark and one.status() != psutil.STATUS_ZOMBIE:
                found.append(one)
        except psutil.Error:
            continue
    return found


class Family:
    """A client, its supervisor, and all of a workflow that has begun."""

    def __init__(self, folder, workflow=WORKFLOW):
        self.mark = str(folder)
        self.client = subprocess.Popen([sys.executable, "-c", CLIENT, self.mark, workflow], start_new_session=True)
        until((folder / "begun").exists, what="the workflow's begin")
        self.workflow = alive(self.mark)
        (self.supervisor,) = [one for one in self.workflow if supervisor.__file__ in one.cmdline()]

    def kill(self, *whom):
        # None sees another one die before it dies itself.
        for one in whom:
            os.kill(one.pid, signal.SIGSTOP)
        for one in whom:
            os.kill(one.pid, signal.SIGKILL)


@pytest.fixture
def family(tmp_path):
    made = Family(tmp_path)
    yield made
    for one in [made.client, *alive(made.mark)]:
        one.kill()
    made.client.wait()


def test_nothing_survives_a_killed_client(family):
    assert len(family.workflow) >= 7
    family.client.kill()
    assert psutil.wait_procs(family.workflow, timeout=20)[1] == []
    assert alive(family.mark) == []


def test_nothing_survives_a_killed_process_group_of_the_client(family):
    os.killpg(family.client.pid, signal.SIGKILL)
    assert psutil.wait_procs(family.workflow, timeout=20)[1] == []
    assert alive(family.mark) == []


def test_nothing_survives_a_killed_supervisor(family):
    family.kill(family.supervisor)
    assert family.client.wait(20) == 1
    assert alive(family.mark) == []


def test_what_survives_client_and_supervisor_ends_before_the_next_run(family):
    family.kill(family.client, family.supervisor)
    family.client.wait()
    psutil.wait_procs([family.supervisor], timeout=20)
    survivors = alive(family.mark)
    assert len(survivors) >= 3, "those that left the workflow's session have nobody any more who would end them"
    assert end_leftovers(family.mark) == len(survivors)
    assert alive(family.mark) == []


def test_a_supervisor_that_lost_its_client_is_let_end_what_has_no_mark(tmp_path):
    hidden = "setsid env -i bash -c 'trap \"\" TERM; echo $$ > hidden; while :; do sleep 600; done' & wait"
    family = Family(tmp_path, f"({hidden}) & until [ -s hidden ]; do sleep 0.01; done; touch begun; wait")
    (pid,) = (tmp_path / "hidden").read_text().split()
    family.client.kill()
    family.client.wait()
    end_leftovers(family.mark)
    assert alive(family.mark) == []
    assert not psutil.pid_exists(int(pid))


def test_processes_of_other_workspaces_are_left_alone(tmp_path):
    other = subprocess.Popen(["sleep", "600"], env={**os.environ, MARK: str(tmp_path / "other")})
    try:
        assert end_leftovers(str(tmp_path)) == 0
        assert other.poll() is None
    finally:
        other.kill()
        other.wait()


def test_processes_that_start_others_all_the_time_end(tmp_path):
    # Each of the two starts others, in sessions of their own, while they are being killed.
    text = (
        """trap '' TERM; (while :; do setsid -f sleep 600; done) & while :; do setsid -f sleep 600; touch begun; done"""
    )
    runner = subprocess.Popen(["bash", "-c", text], cwd=tmp_path, env={**os.environ, MARK: str(tmp_path)})
    try:
        until((tmp_path / "begun").exists)
        end_leftovers(str(tmp_path))
        assert alive(str(tmp_path)) == []
    finally:
        runner.kill()
        runner.wait()
        until(lambda: not [one.kill() for one in alive(str(tmp_path))])
