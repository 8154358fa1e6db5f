"""What comes out: how many calls a second, how long they took, and what they cost the server."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence

from benchmarks.simulation.calls import Cost

SLICE_S = 60.0
"""The course is told by slices of so many seconds."""


class Figures:
    """Times of calls, in seconds, by kind and by the slice in which they began."""

    def __init__(self) -> None:
        self.times: defaultdict[str, list[float]] = defaultdict(list)
        self.by_slice: defaultdict[int, list[float]] = defaultdict(list)
        self.unanswered: Counter[int] = Counter()

    def answered(self, kind: str, began: float, ended: float, in_time: bool) -> None:
        place = int(began // SLICE_S)
        if not in_time:
            self.unanswered[place] += 1
            return
        self.times[kind].append(ended - began)
        self.by_slice[place].append(ended - began)

    def cell(self, first: int) -> str:
        """Median and p99 of all calls since the slice `first`, and the share that was not answered in time."""
        times = [seconds for place, found in self.by_slice.items() if place >= first for seconds in found]
        lost = sum(number for place, number in self.unanswered.items() if place >= first)
        share = f" ({100 * lost / (lost + len(times)):.0f} %)" if lost else ""
        return f"{ms(part(times, 0.5))} / {ms(part(times, 0.99))}{share}" if times else "no answer"


def part(times: Sequence[float], share: float) -> float:
    """The time that `share` of the times stay below; 0 of none."""
    return sorted(times)[min(len(times) - 1, int(len(times) * share))] if times else 0.0


def ms(seconds: float) -> str:
    return f"{1000 * seconds:,.0f}"


def calls_table(figures: Figures, seconds: float) -> list[str]:
    """The times of each kind of call, in a run of so many seconds of virtual time."""
    rows = [
        (kind, f"{len(times) / seconds:.1f}", *(ms(part(times, share)) for share in (0.5, 0.95, 0.99)))
        for kind, times in sorted(figures.times.items())
    ]
    return table(("", "a second", "p50, ms", "p95, ms", "p99, ms"), rows)


def costs_table(costs: dict[str, list[Cost]]) -> list[str]:
    """What a call of each kind costs, on average."""
    rows = []
    for kind, found in sorted(costs.items()):
        python_s = sum(cost.python_s for cost in found) / len(found)
        database_s = sum(cost.database_s for cost in found) / len(found)
        rows.append((kind, f"{len(found):,}", f"{1000 * python_s:.1f}", f"{1000 * database_s:.1f}"))
    return table(("", "calls", "server process, ms of CPU", "PostgreSQL, ms of CPU"), rows)


def course_table(figures: Figures) -> list[str]:
    """How the run went, minute by minute."""
    rows = []
    for place in range(max([*figures.by_slice, *figures.unanswered]) + 1):
        times = figures.by_slice[place]
        p50, p99 = ms(part(times, 0.5)), ms(part(times, 0.99))
        rows.append((str(place), f"{len(times) / SLICE_S:.0f}", p50, p99, f"{figures.unanswered[place]:,}"))
    return table(("minute", "answers a second", "p50, ms", "p99, ms", "no answer in time"), rows)


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """A table in Markdown."""
    rule = ["---", *["---:"] * (len(head) - 1)]
    return ["| " + " | ".join(row) + " |" for row in (head, rule, *rows)]
