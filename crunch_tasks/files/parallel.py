"""Work in several threads: the same for many files, that stops soon when one fails, or ahead of who takes it."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Generic, TypeVar

Check = Callable[[], None]
"""Called between files and blocks; raises (Cancelled, LeaseLost) to stop quickly."""

LOOK_S = 0.2
"""How often a waiting thread looks whether it was interrupted, in seconds."""

T = TypeVar("T")
R = TypeVar("R")


class _StoppedError(Exception):
    """Another thread failed, or the main one was interrupted; that error is the one to tell."""


def in_parallel(work: Callable[[T, Check], R], items: Iterable[T], threads: int, check: Check) -> list[R]:
    """The results of `work(item, check)` in the items' order.

    The first error stops all threads where they next call the check that they were given, and is raised when they
    ended. An interrupt of the calling thread is raised at once: a thread may be waiting for an answer of a storage, and
    whoever is stopped has little time. So `work` calls its check before each step that others can see.
    """
    all_items = list(items)
    numbered = enumerate(all_items)
    lock = threading.Lock()
    stopped = threading.Event()
    ended = threading.Semaphore(0)
    results: dict[int, R] = {}
    errors: list[BaseException] = []

    def stoppable() -> None:
        if stopped.is_set():
            raise _StoppedError
        check()

    def take_one_after_another() -> None:
        try:
            while not stopped.is_set():
                with lock:
                    number, item = next(numbered, (None, None))
                if number is None:
                    return
                results[number] = work(item, stoppable)  # type: ignore[arg-type]
        except BaseException as error:  # noqa: BLE001 - it is raised again in the calling thread
            errors.append(error)
            stopped.set()
        finally:
            ended.release()

    # No pool: the interpreter waits for a pool's threads when it ends, and for daemons it does not.
    workers = [
        threading.Thread(target=take_one_after_another, name=f"crunch-files-{number}", daemon=True)
        for number in range(min(threads, len(all_items)))
    ]
    try:
        for worker in workers:
            worker.start()
        for _ in workers:
            # A signal that arrives just before the wait begins is seen when it ends.
            while not ended.acquire(timeout=LOOK_S):
                pass
    except BaseException:
        stopped.set()
        raise
    if errors:
        raise errors[0]
    return [results[number] for number in sorted(results)]


def ahead(work: Callable[[T], R], items: Iterable[T], width: int) -> Iterator[R]:
    """The results of `work(item)` in the items' order, at most `width` of them under way while one is looked at."""
    under_way: deque[_Ahead[R]] = deque()
    for item in items:
        ready = [under_way.popleft().result()] if len(under_way) == width else []
        under_way.append(_Ahead(work, item))
        yield from ready
    while under_way:
        yield under_way.popleft().result()


class _Ahead(Generic[R]):
    """One piece of work in a thread of its own, a daemon as those above."""

    def __init__(self, work: Callable[[T], R], item: T) -> None:
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, args=(work, item), name="crunch-ahead", daemon=True)
        self._thread.start()

    def _run(self, work: Callable[[T], R], item: T) -> None:
        try:
            self._result = work(item)
        except BaseException as error:  # noqa: BLE001 - it is raised again where the result is taken
            self._error = error

    def result(self) -> R:
        self._thread.join()
        if self._error is not None:
            raise self._error
        return self._result
