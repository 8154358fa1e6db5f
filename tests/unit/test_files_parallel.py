"""How many pieces of work are under way at once, and for how long one may stand still."""

from __future__ import annotations

import threading

import pytest

from crunch_tasks.errors import TimedOut, TransferError
from crunch_tasks.files.parallel import WIDEN_AFTER, Width, ahead, in_parallel, in_time


def nothing() -> None:
    pass


def peak(width: Width, pieces: int) -> int:
    """How many of so many pieces of work are under way at once, each there until no other comes."""
    here, most = 0, 0
    lock = threading.Condition()

    def work(_: int, check: object) -> None:
        nonlocal here, most
        with width.turn(nothing):
            with lock:
                here += 1
                most = max(most, here)
                lock.notify_all()
                lock.wait_for(lambda: most >= min(width.width, pieces), timeout=10)
            with lock:
                here -= 1

    in_parallel(work, range(pieces), pieces, nothing)
    return most


def test_after_time_outs_half_are_under_way_then_slowly_more_again() -> None:
    width = Width(4)
    assert width.width == 4
    with pytest.raises(TransferError), width.turn(nothing):
        raise TransferError
    assert width.width == 4, "what is no matter of time changes nothing"
    with pytest.raises(TimedOut), width.turn(nothing):
        raise TimedOut
    assert width.width == 1, "alone, it cannot be fewer"
    assert peak(width, WIDEN_AFTER - 1) == 1
    with width.turn(nothing):
        pass
    assert width.width == 2
    assert peak(width, 4) == 2


def test_work_that_stands_still_is_given_up_and_other_work_is_not() -> None:
    still = threading.Event()
    try:
        with pytest.raises(TimeoutError):
            in_time(lambda moved: still.wait(), 0.05)
        with pytest.raises(TimeoutError):
            list(ahead(lambda number, moved: still.wait() if number else "one", range(3), 2, 0.05))

        def slow_but_honest(number: int, moved: object) -> int:
            for _ in range(4):
                assert not still.wait(0.2)
                moved()  # type: ignore[operator]
            return number

        assert list(ahead(slow_but_honest, range(2), 2, 0.6)) == [0, 1]
    finally:
        still.set()
