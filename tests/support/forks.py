"""`crunch` commands as forks of one process that has imported all they import, which takes each of them seconds.

A fork is a process as any: it has its own environment, files, signals and end, and is killed as one. What differs is
that no module is imported after its environment is known; Prefect, which reads its own then, is told to read it again.
"""

from __future__ import annotations

import contextlib
import faulthandler
import importlib
import json
import os
import pkgutil
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

ROOT = Path(__file__).parents[2]
CRUNCH_PACKAGES = ("crunch_tasks", "flows")
STORAGES = ("boto3", "obstore", "storages.backends.s3")
NEEDS_A_START = ("LD_PRELOAD", "PYTHONPATH")
"""Variables that only a new Python heeds."""


class Fork:
    """As much of `subprocess.Popen` as tests use of it."""

    def __init__(self, args: Sequence[str], pid: int, ending: int, out: int, err: int) -> None:
        self.args = args
        self.pid = pid
        self.returncode: int | None = None
        self.stdout: IO[str] = os.fdopen(out, "r")
        self.stderr: IO[str] = os.fdopen(err, "r")
        self._ending = ending

    def poll(self) -> int | None:
        return self._look(0)

    def wait(self, timeout: float | None = None) -> int:
        code = self._look(timeout)
        if code is None:
            raise subprocess.TimeoutExpired(list(self.args), timeout or 0)
        return code

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        """Its output. One that does not end in time tells where its threads are, in the error."""
        said = ["", ""]

        def read(number: int, file: IO[str]) -> None:
            said[number] = file.read()

        readers = [threading.Thread(target=read, args=pair) for pair in enumerate((self.stdout, self.stderr))]
        for reader in readers:
            reader.start()
        try:
            self.wait(timeout)
        except subprocess.TimeoutExpired:
            self.send_signal(signal.SIGABRT)
            self.wait()
            for reader in readers:
                reader.join()
            raise AssertionError(f"{self.args} did not end within {timeout:g} s:\n{said[1]}") from None
        for reader in readers:
            reader.join()
        return said[0], said[1]

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def _look(self, timeout: float | None) -> int | None:
        if self.returncode is None and select.select([self._ending], [], [], timeout)[0]:
            self.returncode = int(os.read(self._ending, 16))
            os.close(self._ending)
        return self.returncode


class Forks:
    """The process that is forked, until `close`."""

    def __init__(self) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            command = [sys.executable, "-m", "tests.support.forks", str(theirs.fileno())]
            self._process = subprocess.Popen(
                command, cwd=ROOT, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE
            )
        self._line = ours

    def start(self, args: Sequence[str], env: Mapping[str, str]) -> Fork:
        """The command `args`, with this environment, in the folder of this process."""
        (out, to_out), (err, to_err), (ending, to_end) = os.pipe(), os.pipe(), os.pipe()
        asked = json.dumps({"args": list(args), "env": dict(env), "cwd": str(Path.cwd())}).encode()
        socket.send_fds(self._line, [asked], [to_out, to_err, to_end])
        for fd in (to_out, to_err, to_end):
            os.close(fd)
        return Fork(args, int(self._line.recv(16)), ending, out, err)

    def close(self) -> None:
        self._line.close()
        self._process.wait()


def _imported() -> None:
    for name in CRUNCH_PACKAGES:
        package = importlib.import_module(name)
        for module in pkgutil.walk_packages(package.__path__, f"{name}."):
            importlib.import_module(module.name)
    for name in STORAGES:
        importlib.import_module(name)


def _serve(line: socket.socket) -> list[str]:
    """Fork for each command that is asked for, and tell how each ends. Returns in the forks, the command's words."""
    woken, wake = os.pipe()
    os.set_blocking(wake, False)
    signal.set_wakeup_fd(wake)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    endings: dict[int, int] = {}
    while True:
        ready = select.select([line, woken], [], [])[0]
        if woken in ready:
            os.read(woken, 4096)
            for pid in [*endings]:
                found, status = os.waitpid(pid, os.WNOHANG)
                if found:
                    ending = endings.pop(pid)
                    with contextlib.suppress(BrokenPipeError):
                        os.write(ending, str(os.waitstatus_to_exitcode(status)).encode())
                    os.close(ending)
        if line not in ready:
            continue
        message, fds, _, _ = socket.recv_fds(line, 1 << 20, 3)
        if not message:
            os._exit(0)
        asked = json.loads(message)
        pid = os.fork()
        if pid == 0:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            for fd in (woken, wake, line.detach(), fds[2], *endings.values()):
                os.close(fd)
            for number, fd in enumerate(fds[:2], 1):
                os.dup2(fd, number)
                os.close(fd)
            os.chdir(asked["cwd"])
            os.environ.clear()
            os.environ.update(asked["env"])
            return list(asked["args"])
        endings[pid] = fds[2]
        for fd in fds[:2]:
            os.close(fd)
        line.send(str(pid).encode())


def _run(words: list[str]) -> None:
    import prefect.context
    from prefect.logging.configuration import setup_logging

    from flows.cli import quieten_prefect

    quieten_prefect()
    prefect.context.refresh_global_settings_context()
    setup_logging(incremental=False)
    faulthandler.enable()
    sys.argv = words
    # As the script that pip made of it.
    from flows.entry import main

    sys.exit(main())


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)
    _imported()
    _run(_serve(socket.socket(fileno=int(sys.argv[1]))))
