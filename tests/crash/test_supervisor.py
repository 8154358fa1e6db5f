"""The client is killed with SIGKILL: nothing of its workflow survives."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import psutil
import pytest

pytestmark = pytest.mark.slow

MARK = "CRUNCH_TEST_MARK"
CLIENT = """
import os, sys
from pathlib import Path
from crunch_tasks.compute.process import run
folder = Path(sys.argv[1])
run(["/bin/bash", "-c", sys.argv[2]], cwd=folder, env=os.environ, log=folder / "log", timeout_s=None,
    check=lambda: None, grace_s=0.5)
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


@pytest.mark.parametrize("whole_group", [False, True], ids=["client", "its process group"])
def test_nothing_survives_a_killed_client(tmp_path, whole_group):
    client = subprocess.Popen(
        [sys.executable, "-c", CLIENT, str(tmp_path), WORKFLOW],
        env={**os.environ, MARK: str(tmp_path)},
        start_new_session=True,
    )
    try:
        while not (tmp_path / "begun").exists():
            assert client.poll() is None
        workflow = [one for one in alive(str(tmp_path)) if one.pid != client.pid]
        assert len(workflow) >= 6
        if whole_group:
            os.killpg(client.pid, signal.SIGKILL)
        else:
            client.kill()
        client.wait()
        _, left = psutil.wait_procs(workflow, timeout=20)
        assert left == []
        assert alive(str(tmp_path)) == []
    finally:
        for one in alive(str(tmp_path)):
            one.kill()
