"""What a process took: wall and CPU seconds, and the most memory that it had at once."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

SETTLE_S = 2.0


@dataclass(frozen=True)
class Measured:
    """Seconds of wall and of user and system CPU together; peak memory of the process in MB (1e6 bytes)."""

    wall_s: float
    cpu_s: float
    peak_mb: float

    def __add__(self, other: Measured) -> Measured:
        """One after the other."""
        return Measured(self.wall_s + other.wall_s, self.cpu_s + other.cpu_s, max(self.peak_mb, other.peak_mb))


def command(words: Sequence[str | Path], environment: Mapping[str, str] | None = None) -> Measured:
    """Run a command as a whole process. Raises RuntimeError with its output when it fails."""
    os.sync()
    with tempfile.TemporaryFile() as output:
        began = time.perf_counter()
        process = subprocess.Popen(
            [str(word) for word in words],
            env={**os.environ, **(environment or {})},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )
        _, status, used = os.wait4(process.pid, 0)
        wall = time.perf_counter() - began
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            output.seek(0)
            raise RuntimeError(f"{words} ended with {process.returncode}:\n{output.read().decode(errors='replace')}")
    return Measured(wall, used.ru_utime + used.ru_stime, used.ru_maxrss * 1024 / 1e6)


def child(module: str, *arguments: str | Path, environment: Mapping[str, str] | None = None) -> Measured:
    """Run `python -m MODULE ARGUMENTS`, which measures its own work with `part` and tells it with `tell`."""
    done = subprocess.run(
        [sys.executable, "-m", module, *map(str, arguments)],
        env={**os.environ, **(environment or {})},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"{module} {arguments} failed:\n{done.stdout}{done.stderr}")
    return Measured(**json.loads(done.stdout.splitlines()[-1]))


def part(work: Callable[[], object]) -> Measured:
    """Measure a part of this process's work: what it imported before does not count, but in peak memory."""
    # The Prefect server is still busy with what came before.
    time.sleep(SETTLE_S)
    os.sync()
    began, used = time.perf_counter(), _cpu_s()
    work()
    wall, cpu = time.perf_counter() - began, _cpu_s() - used
    return Measured(wall, cpu, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6)


def tell(measured: Measured) -> None:
    sys.stdout.write(json.dumps(asdict(measured)) + "\n")


def _cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime
