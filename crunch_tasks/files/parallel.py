"""Work in several threads: the same for many files, that stops soon when one fails, or ahead of who takes it.

How many are under way at once is a Width: it adapts where the line does not bear as many.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Generic, TypeVar

from crunch_tasks.errors import TimedOut

Check = Callable[[], None]
"""Called between files and blocks; raises (Cancelled, LeaseLost) to stop quickly."""

Moved = Callable[[], None]
"""Called by work each time it moved on."""

WIDEN_AFTER = 8
"""After so many pieces of work that went well one more is tried at once."""

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


class Width:
    """How many pieces of work may be under way at once: half of them after a time-out, slowly more when all goes well.

    A line that all share gives each its part. Where that is too little for a request's time, fewer at once get through.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._width = float(most)
        self._under_way = 0
        self._changed = threading.Condition()

    @property
    def width(self) -> int:
        return int(self._width)

    def narrow(self, under_way: int) -> None:
        """One of so many at once timed out."""
        self._width = max(1.0, min(self.width, under_way) // 2)

    def widen(self) -> None:
        """One went well."""
        self._width = min(self._most, self._width + 1 / WIDEN_AFTER)

    @contextlib.contextmanager
    def turn(self, check: Check) -> Iterator[None]:
        """Wait until there is room, then be under way; a TimedOut that comes out leaves less room. Calls `check`."""
        with self._changed:
            while self._under_way >= self.width:
                self._changed.wait(LOOK_S)
                check()
            self._under_way += 1
        try:
            yield
        except TimedOut:
            with self._changed:
                self.narrow(self._under_way)
            raise
        else:
            with self._changed:
                self.widen()
        finally:
            with self._changed:
                self._under_way -= 1
                self._changed.notify()


def ahead(work: Callable[[T, Moved], R], items: Iterable[T], width: int, patience_s: float) -> Iterator[R]:
    """The results of `work(item, moved)` in the items' order, at most `width` under way while one is looked at.

    Raises TimeoutError as `in_time` does.
    """
    under_way: deque[_Ahead[R]] = deque()
    for item in items:
        ready = [under_way.popleft().result(patience_s)] if len(under_way) == width else []
        under_way.append(_Ahead(partial(work, item)))
        yield from ready
    while under_way:
        yield under_way.popleft().result(patience_s)


def in_time(work: Callable[[Moved], R], patience_s: float) -> R:
    """The result of `work(moved)`, done in another thread. Raises TimeoutError when it does not move for so long.

    The thread is left to itself then: nothing ends a call that waits for bytes.
    """
    return _Ahead(work).result(patience_s)


class _Ahead(Generic[R]):
    """One piece of work in a thread of its own, a daemon as those above."""

    def __init__(self, work: Callable[[Moved], R]) -> None:
        self._error: BaseException | None = None
        self._moved()
        self._thread = threading.Thread(target=self._run, args=(work,), name="crunch-ahead", daemon=True)
        self._thread.start()

    def _moved(self) -> None:
        self._moved_at = time.monotonic()

    def _run(self, work: Callable[[Moved], R]) -> None:
        try:
            self._result = work(self._moved)
        except BaseException as error:  # noqa: BLE001 - it is raised again where the result is taken
            self._error = error

    def result(self, patience_s: float) -> R:
        while True:
            self._thread.join(max(0.0, self._moved_at + patience_s - time.monotonic()))
            if not self._thread.is_alive():
                break
            if time.monotonic() - self._moved_at >= patience_s:
                raise TimeoutError
        if self._error is not None:
            raise self._error
        return self._result
