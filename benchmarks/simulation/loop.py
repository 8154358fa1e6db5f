"""Virtual time: a heap of what happens when, and tasks, which are generators.

A task yields the seconds that it sleeps, or a `Signal` that it waits for, whose value it is sent. Two things of the
same second happen in the order in which they were asked for, so that a seed gives the same course again.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable, Generator
from typing import Any

Steps = Generator["float | Signal", Any, Any]


class Loop:
    """`now` is in seconds since the simulation began."""

    def __init__(self) -> None:
        self.now = 0.0
        self._heap: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = itertools.count()

    def after(self, seconds: float, do: Callable[[], None]) -> None:
        heapq.heappush(self._heap, (self.now + seconds, next(self._numbers), do))

    def start(self, steps: Steps) -> Task:
        return Task(self, steps)

    def signal(self) -> Signal:
        return Signal(self)

    def within(self, seconds: float, signal: Signal) -> Signal:
        """Fires with the value of `signal`, or with None after `seconds`, whichever comes first."""
        first = Signal(self)
        signal.then(first.fire)
        self.after(seconds, lambda: first.fire(None))
        return first

    def run(self, until: float, over: Callable[[], bool] = lambda: False) -> None:
        """Let happen what happens before the second `until`, or until `over`."""
        while self._heap and self._heap[0][0] < until and not over():
            self.now, _, do = heapq.heappop(self._heap)
            do()


class Signal:
    """Something that happens once, with a value."""

    def __init__(self, loop: Loop) -> None:
        self.fired = False
        self.value: Any = None
        self._loop = loop
        self._then: list[Callable[[Any], None]] = []

    def fire(self, value: Any = None) -> None:
        """It has happened now; a second time means nothing."""
        if not self.fired:
            self.fired, self.value = True, value
            for do in self._then:
                self._call(do)

    def then(self, do: Callable[[Any], None]) -> None:
        if self.fired:
            self._call(do)
        else:
            self._then.append(do)

    def _call(self, do: Callable[[Any], None]) -> None:
        # Not from here: a task that fires a signal may be ended by whoever waits for it.
        self._loop.after(0.0, lambda: do(self.value))


class Task:
    """A generator that is under way."""

    def __init__(self, loop: Loop, steps: Steps) -> None:
        self._loop = loop
        self._steps = steps
        self._ended = False
        loop.after(0.0, self._go)

    def kill(self) -> None:
        """As SIGKILL: it does nothing more, whatever it waits for."""
        if not self._ended:
            self._ended = True
            self._steps.close()

    def _go(self, value: Any = None) -> None:
        if self._ended:
            return
        try:
            wanted = self._steps.send(value)
        except StopIteration:
            self._ended = True
            return
        if isinstance(wanted, Signal):
            wanted.then(self._go)
        else:
            self._loop.after(wanted, self._go)
