"""The same work for many files in several threads, that stops soon when one fails or somebody interrupts."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from typing import TypeVar

Check = Callable[[], None]
"""Called between files and blocks; raises (Cancelled, LeaseLost) to stop quickly."""

T = TypeVar("T")
R = TypeVar("R")


class _StoppedError(Exception):
    """Another thread failed, or the main one was interrupted; that error is the one to tell."""


def in_parallel(work: Callable[[T, Check], R], items: Iterable[T], threads: int, check: Check) -> list[R]:
    """The results of `work(item, check)` in the items' order.

    The first error stops all threads where they next call the check that they were given, and is raised when they
    ended. So does an interrupt of the calling thread.
    """
    numbered = enumerate(items)
    lock = threading.Lock()
    stopped = threading.Event()
    results: dict[int, R] = {}
    errors: list[BaseException] = []

    def stoppable() -> None:
        if stopped.is_set():
            raise _StoppedError
        check()

    def take_one_after_another() -> None:
        while not stopped.is_set():
            with lock:
                number, item = next(numbered, (None, None))
            if number is None:
                return
            try:
                results[number] = work(item, stoppable)  # type: ignore[arg-type]
            except BaseException as error:
                errors.append(error)
                stopped.set()
                raise

    with ThreadPoolExecutor(threads, "crunch-files") as pool:
        futures = [pool.submit(take_one_after_another) for _ in range(threads)]
        try:
            wait(futures, return_when=FIRST_EXCEPTION)
        except BaseException:
            stopped.set()
            raise
    if errors:
        raise errors[0]
    return [results[number] for number in sorted(results)]
