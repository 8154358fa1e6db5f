"""What a person at the terminal sees of runs: a moving line while one is under way, a line at its end, a table."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from types import TracebackType
from typing import Any, Self

from rich.console import Console
from rich.status import Status
from rich.table import Table
from rich.text import Text

from crunch_tasks.run import Result
from flows.terminal import cell, console, shown

SIGNS: Mapping[Result, tuple[str, str]] = {
    Result.COMPLETED: ("✓", "green"),
    Result.FAILED: ("✗", "red"),
    Result.CANCELLED: ("✗", "red"),
    Result.LEASE_LOST: ("!", "yellow"),
    Result.RELEASED: ("↺", "yellow"),
    Result.BLOCKED: ("!", "yellow"),
    Result.NO_ROOM: ("!", "yellow"),
    Result.NO_TIME: ("!", "yellow"),
    Result.UNDELIVERED: ("…", "yellow"),
}


@dataclass(frozen=True)
class Outcome:
    """How one dataset's run ended, with what it took: seconds from claim to end, files down and up.

    `workspace` is where its files are on this machine, "" when none are left.
    """

    dataset: str
    result: Result
    seconds: float
    note: str = ""
    downloaded: int = 0
    uploaded: int = 0
    workspace: str = ""

    @property
    def exit_code(self) -> int:
        if self.result is Result.LEASE_LOST:
            return 4
        if self.result is Result.NO_TIME:
            return 3
        return 0 if self.result in (Result.COMPLETED, Result.RELEASED) else 1

    def as_json(self) -> dict[str, Any]:
        return {**asdict(self), "result": self.result.value, "exit_code": self.exit_code}


class Report:
    """Tells of runs on stderr: stages as they go, and at the end how it went. A terminal gets a moving line."""

    def __init__(self, to: Console | None = None) -> None:
        self.console = to or console(stderr=True)
        self._status = self.console.status("") if self.console.is_terminal else None
        self._doing: dict[str, str] = {}
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._status is not None:
            self._status.stop()

    def doing(self, slug: str, what: str) -> None:
        """Say what a run is at; on a terminal in its line again, elsewhere nothing. From any thread."""
        if self._status is not None:
            with self._lock:
                self._doing[slug] = what
                self._show(self._status)

    def ended(self, outcome: Outcome) -> None:
        """A run is over."""
        with self._lock:
            self._doing.pop(outcome.dataset, None)
            if self._status is not None:
                self._show(self._status)
            self._tell(outcome)

    def _show(self, status: Status) -> None:
        if not self._doing:
            status.stop()
            return
        status.update(Text("\n").join(cell(f"{slug}  {what}") for slug, what in self._doing.items()))
        status.start()

    def _tell(self, outcome: Outcome) -> None:
        sign, colour = SIGNS[outcome.result]
        moved = f"{outcome.downloaded} down, {outcome.uploaded} up"
        rest = shown(f" {outcome.dataset}  {outcome.result.value}  {outcome.seconds:.1f} s  {moved}")
        self.console.print(Text.assemble((sign, colour), rest), soft_wrap=True)
        if outcome.note:
            self.console.print(shown(_indented(outcome.note)), style="dim", soft_wrap=True)
        if outcome.workspace and outcome.result in (Result.FAILED, Result.CANCELLED, Result.LEASE_LOST):
            self.console.print(shown(f"    Its files stay in {outcome.workspace}."), style="dim", soft_wrap=True)

    def say(self, sentence: str) -> None:
        self.console.print(shown(sentence), soft_wrap=True)

    def table(self, outcomes: list[Outcome], seconds: float) -> None:
        """All runs of a loop, and their sum."""
        table = Table("dataset", "result", "seconds", "files down", "files up", box=None, pad_edge=False)
        for outcome in outcomes:
            sign, colour = SIGNS[outcome.result]
            row = (f"{outcome.seconds:.1f}", str(outcome.downloaded), str(outcome.uploaded))
            table.add_row(cell(outcome.dataset), Text(f"{sign} {outcome.result.value}", style=colour), *row)
        if outcomes:
            self.console.print(table)
        counts = {result: sum(o.result is result for o in outcomes) for result in Result}
        said = ", ".join(f"{count} {result.value}" for result, count in counts.items() if count)
        self.console.print(f"{len(outcomes)} datasets in {seconds:.0f} s: {said or 'nothing to process'}")


def now() -> float:
    return time.monotonic()


def _indented(note: str) -> str:
    lines = note.strip().splitlines()
    kept = lines if len(lines) <= 12 else [*lines[:3], "…", *lines[-8:]]
    return "\n".join(f"    {line}" for line in kept)
