"""What downloads and uploads have in common: how far they are, what to do again, and which files go together."""

from __future__ import annotations

import random
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar

from crunch_tasks.errors import CrunchError, TooSlow
from crunch_tasks.files.parallel import Check, in_parallel
from crunch_tasks.files.storage import LARGE, MEDIUM, MEDIUM_AT_ONCE, Storage

TRIES = 4
SLOW_TRIES = 2
FIRST_PAUSE_S = 0.2
TELL_S = 0.1
"""How often to tell how far a transfer is, in seconds: not more often than a person can see."""

MayWrite = Callable[[float], None]
"""Called before each write with the seconds it may take; raises LeaseLost when less lease is left than that."""


@dataclass(frozen=True)
class Progress:
    """How far a transfer is: files and bytes, done and in all, and the seconds that it took so far."""

    files_done: int
    files: int
    bytes_done: int
    bytes: int
    seconds: float = 0.0

    @property
    def bytes_per_s(self) -> float:
        return self.bytes_done / self.seconds if self.seconds > 0 else 0.0

    @property
    def remaining_s(self) -> float | None:
        """Seconds left at this rate, or None when nobody can tell yet."""
        rate = self.bytes_per_s
        return (self.bytes - self.bytes_done) / rate if rate > 0 else None


Tell = Callable[[Progress], None]


def nobody(_: Progress) -> None:
    """Tells nobody."""


@dataclass(frozen=True)
class TransferReport:
    """What a transfer did: files moved, and their bytes."""

    moved: int
    bytes: int


R = TypeVar("R")


class Meter:
    """Counts what the threads move and tells it on."""

    def __init__(self, files: int, size: int, tell: Tell) -> None:
        self._files_done = self._bytes_done = 0
        self._files, self._bytes = files, size
        self._tell = tell
        self._lock = threading.Lock()
        self._began = time.monotonic()
        self._told = 0.0

    def add(self, size: int, files: int = 0) -> None:
        with self._lock:
            self._files_done += files
            self._bytes_done += size
            now = time.monotonic()
            if now - self._told >= TELL_S or self._files_done == self._files:
                self._told = now
                seconds = now - self._began
                self._tell(Progress(self._files_done, self._files, self._bytes_done, self._bytes, seconds))


def in_lanes(work: Callable[[str, Check], None], sizes: Mapping[str, int], storage: Storage, check: Check) -> None:
    """`work(path, check)` for each path with its size in bytes: the larger ones first, and fewer of them at once.

    So memory has a bound, and the last thread to finish is not one that began a large file last. Within a lane they go
    in the order of their paths, so that files of one folder follow one another.
    """
    lanes = (
        (LARGE, sys.maxsize, storage.parallel_large),
        (MEDIUM, LARGE, min(MEDIUM_AT_ONCE, storage.parallel)),
        (-1, MEDIUM, storage.parallel),
    )
    for above, up_to, threads in lanes:
        in_parallel(work, sorted(path for path, size in sizes.items() if above < size <= up_to), threads, check)


def retrying(work: Callable[[], R], check: Check, position: Callable[[], int] = lambda: 0) -> R:
    """Do the work, again with growing pauses while its errors say that this can help.

    It is given up after TRIES failures in a row at the same `position`, SLOW_TRIES where the line is too slow: who
    moves on a little each time may go on.
    """
    failures, reached = 0, position()
    while True:
        check()
        try:
            return work()
        except CrunchError as error:
            before, reached = reached, position()
            failures = 1 if reached > before else failures + 1
            if not error.retryable or failures >= (SLOW_TRIES if isinstance(error, TooSlow) else TRIES):
                raise
        time.sleep(FIRST_PAUSE_S * 2 ** (failures - 1) * random.uniform(0.5, 1.5))  # noqa: S311
