"""A stop from outside: SIGTERM, which is a batch system's notice, or Ctrl-C. From then on time is short, and bounded.

Slurm, PBS and Kubernetes kill about 30 seconds after their notice, a Prefect worker too. What must be said and saved
is done before; a process that hangs all the same, in a storage or a server that does not answer, is ended by the
kernel's clock, which no busy or waiting Python can hold up. Nothing is lost by that: it is one more way to be killed.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

STOP_S = 24
"""Seconds from the notice to the end of this process, at the latest."""

LAST_WORD_S = 8.0
"""The part of them, in seconds, that is kept for telling the server."""

GOODBYE_S = 3.0
"""How long Python's exit may take then, in seconds: it waits for what Prefect still has to tell its server."""

NOTICES = (signal.SIGTERM, signal.SIGINT)


@contextmanager
def stoppable() -> Iterator[None]:
    """While this context is open, the first notice starts the clock, and then does what it did before.

    Prefect has a handler of its own while a flow runs, so each stage opens one inside of it. Does nothing in other
    threads than the main one, which get no signals.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in NOTICES}

    def noted(number: int, frame: FrameType | None) -> None:
        if not signal.getitimer(signal.ITIMER_REAL)[0]:
            signal.setitimer(signal.ITIMER_REAL, STOP_S)
        handler = before[signal.Signals(number)]
        if callable(handler):
            handler(number, frame)

    for number, handler in before.items():
        if callable(handler):
            signal.signal(number, noted)
    try:
        yield
    finally:
        for number, handler in before.items():
            if signal.getsignal(number) is noted:
                signal.signal(number, handler)


def seconds_left() -> float:
    """Seconds until this process, which was told to stop, is ended."""
    return signal.getitimer(signal.ITIMER_REAL)[0] or float(STOP_S)


def end_in_time(code: int) -> None:
    """When all is said: a process that was told to stop ends with this code, whatever hangs at its exit."""
    if signal.getitimer(signal.ITIMER_REAL)[0]:
        timer = threading.Timer(min(GOODBYE_S, seconds_left() / 2), os._exit, [code])
        timer.daemon = True
        timer.start()


@contextmanager
def deaf() -> Iterator[None]:
    """For the seconds that a last word takes, another notice changes nothing."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, signal.SIG_IGN) for number in NOTICES}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
