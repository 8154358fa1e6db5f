"""The processes of the chaos: how those of its clients are found, and what is sent to them."""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from pathlib import Path

import psutil

from deployments.local import Service

MARK = "CHAOS_TEST"
"""In the environment of every client and all that it starts, so that survivors are found."""


def ours(folder: Path) -> list[psutil.Process]:
    """The living processes that a client is or started."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if process.environ().get(MARK) == str(folder) and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


def send(processes: list[psutil.Process], number: int) -> None:
    for process in processes:
        with suppress(psutil.Error):
            process.send_signal(number)


def kill_all(service: Service) -> None:
    assert service.process is not None
    os.killpg(service.process.pid, signal.SIGKILL)
    service.process.wait()
