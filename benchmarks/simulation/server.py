"""The server as a queue in virtual time: its processes, the turns in each, and the database behind them.

A request waits for one of the turns (`AT_ONCE` in each process), then for a process (Python's lock lets one thread of a
process compute at a time), then for one of the database's cores. For how long it has each is the call's cost.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from benchmarks.simulation.calls import Call, Site
from benchmarks.simulation.figures import Figures
from benchmarks.simulation.loop import Loop, Signal
from server.operations.at_once import AT_ONCE, TURN_S

HTTP_S = 0.002
"""CPU seconds that uvicorn and ASGI's threads add to what Django does for a request: docs/performance.md."""


@dataclass(frozen=True)
class Size:
    """Server processes, and cores of the database. Requests that waited for a turn longer than `gives_up_s` are refused
    and not worked on, as their clients will not wait for the answer.
    """

    processes: int
    database_cores: int = 4
    gives_up_s: float = TURN_S

    def __str__(self) -> str:
        refuses = ", refusing nothing" if self.gives_up_s == math.inf else ""
        return f"{self.processes} server processes, {self.database_cores} database cores{refuses}"


class Station:
    """Serves so many at once, the others in the order in which they came. `busy_s` is what it worked so far."""

    def __init__(self, loop: Loop, capacity: int) -> None:
        self.capacity = capacity
        self.busy_s = 0.0
        self._loop = loop
        self._free = capacity
        self._waiting: deque[tuple[float, Callable[[], None]]] = deque()

    def serve(self, seconds: float, then: Callable[[], None]) -> None:
        self._waiting.append((seconds, then))
        self._begin()

    def _begin(self) -> None:
        while self._free and self._waiting:
            self._free -= 1
            self._loop.after(self._waiting[0][0], self._ender(*self._waiting.popleft()))

    def _ender(self, seconds: float, then: Callable[[], None]) -> Callable[[], None]:
        def end() -> None:
            self._free += 1
            self.busy_s += seconds
            then()
            self._begin()

        return end


class Server:
    """Answers calls by what `site` does. While it is `down`, and for what it had in hand, there is no answer."""

    def __init__(self, loop: Loop, site: Site, size: Size, figures: Figures) -> None:
        self.size = size
        self._loop = loop
        self._site = site
        self._figures = figures
        self._life = 0
        self._down = False
        self._boot()

    def ask(self, call: Call, timeout_s: float) -> Signal:
        """Fires with the `Answer`, or with None when there is none in time."""
        asked, began = self._loop.signal(), self._loop.now
        within = self._loop.within(timeout_s, asked)
        if self._down:
            asked.fire(None)
        else:
            self._waiting.append((call, asked, began))
            self._take()
        within.then(lambda answer: self._figures.answered(call.kind, began, self._loop.now, answer is not None))
        return within

    def go_down(self) -> None:
        """As a crash: what waits or is being worked on is never answered, even if it was done."""
        lost = [*(asked for _, asked, _ in self._waiting), *self._in_hand]
        self._down = True
        self._life += 1
        for asked in lost:
            asked.fire(None)

    def come_up(self) -> None:
        self._down = False
        self._boot()

    def _boot(self) -> None:
        self._waiting: deque[tuple[Call, Signal, float]] = deque()
        self._in_hand: dict[Signal, None] = {}
        self.python = Station(self._loop, self.size.processes)
        self.database = Station(self._loop, self.size.database_cores)

    def _take(self) -> None:
        while self._waiting and len(self._in_hand) < AT_ONCE * self.size.processes:
            call, asked, came = self._waiting.popleft()
            if self._loop.now - came > self.size.gives_up_s:
                asked.fire(None)
            else:
                self._work(call, asked)

    def _work(self, call: Call, asked: Signal) -> None:
        answer, cost = self._site.do(call, self._loop.now)
        life, database = self._life, self.database
        self._in_hand[asked] = None

        def done() -> None:
            if life == self._life:
                del self._in_hand[asked]
                asked.fire(answer)
                self._take()

        self.python.serve(HTTP_S + cost.python_s, lambda: database.serve(cost.database_s, done))
