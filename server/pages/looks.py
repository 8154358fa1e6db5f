"""How the catalogue and a dataset's life look to people: words, counts, bars, stages, attribute values.

Pure: it decides what the templates show, and asks the database for nothing.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from django.template.defaultfilters import filesizeformat

from crunch_tasks.contract import DatasetState, Stage, State
from server.models import Attribute, Change, Dataset, Status
from server.services.pace import seconds_left

EXPIRED = "expired"


@dataclass(frozen=True)
class Look:
    """A state for people: `key` chooses sign and colour, `word` says it."""

    key: str
    word: str


def look(dataset: Dataset) -> Look:
    """A dataset's state in the words and colour of the pages."""
    if dataset.lease_expired:
        return Look(EXPIRED, "running, lease expired")
    return Look(dataset.state, dataset.state)


def attempt_number(dataset: Dataset, max_attempts: int) -> int | None:
    """Which attempt the dataset is at or ended with, counted from 1; None when it waits for its first."""
    if dataset.state == DatasetState.UNPROCESSED.value:
        return dataset.attempt or None
    return min(dataset.attempt + 1, max(max_attempts, 1))


LEAST = 1.5
"""How wide the segment of a state with one dataset is, in a bar that is 100 wide; the rest is shared by count."""


@dataclass(frozen=True)
class Segment:
    """One state's share of a project: how many datasets, and its place in a bar that is 100 wide."""

    state: str
    count: int
    start: str
    width: str


@dataclass(frozen=True)
class Counts:
    """How many datasets of a project are in each state."""

    by_state: Mapping[str, int]

    @property
    def total(self) -> int:
        return sum(self.by_state.values())

    def of(self, state: str) -> int:
        """The count of one state, or of all for the empty word."""
        return self.by_state.get(state, 0) if state else self.total

    @property
    def failed(self) -> int:
        return self.of(DatasetState.FAILED.value)

    @property
    def running(self) -> int:
        return self.of(DatasetState.RUNNING.value)

    @property
    def segments(self) -> list[Segment]:
        """What is done first, what is to do last. The few among many are LEAST wide, so that they are seen."""
        order = (DatasetState.COMPLETED, DatasetState.FAILED, DatasetState.RUNNING, DatasetState.UNPROCESSED)
        shared = 100 - LEAST * sum(self.of(state.value) > 0 for state in order)
        start, found = 0.0, []
        for state in order:
            count = self.of(state.value)
            width = LEAST + shared * count / self.total if count else 0.0
            found.append(Segment(state.value, count, f"{start:.3f}", f"{width:.3f}"))
            start += width
        return found

    @property
    def sentence(self) -> str:
        """The bar in words, for those who do not see it."""
        return ", ".join(f"{segment.count} {segment.state}" for segment in self.segments)


@dataclass(frozen=True)
class StageLook:
    """One stage of the run that a dataset is in, or ended with."""

    name: str
    key: str
    word: str
    started: dt.datetime | None = None
    ended: dt.datetime | None = None

    @property
    def seconds(self) -> float | None:
        return (self.ended - self.started).total_seconds() if self.started and self.ended else None


def timeline(dataset: Dataset, newest_first: Iterable[Status]) -> list[StageLook]:
    """The three stages, from the dataset's last effective statuses."""
    run = _latest_run(dataset, newest_first)
    return [_stage(stage, dataset, [status for status in run if status.stage == stage]) for stage in Stage]


def cells(dataset: Dataset) -> list[StageLook]:
    """The three stages of the run that a dataset is in or ended with, from what is kept with the dataset."""
    reached = dataset.stage or 0
    found = []
    for stage in Stage:
        if stage == reached:
            found.append(_in_stage(dataset, stage.name.capitalize(), State(dataset.stage_state or State.START)))
        elif stage < reached:
            found.append(StageLook(stage.name.capitalize(), "completed", "done"))
        else:
            found.append(StageLook(stage.name.capitalize(), "unprocessed", "not reached"))
    return found


def _in_stage(dataset: Dataset, name: str, state: State) -> StageLook:
    if state == State.START:
        return (
            StageLook(name, EXPIRED, "lease expired")
            if dataset.lease_expired
            else StageLook(name, "running", "running")
        )
    return StageLook(name, "completed", "done") if state == State.SUCCESS else StageLook(name, "failed", "failed")


def _latest_run(dataset: Dataset, newest_first: Iterable[Status]) -> list[Status]:
    found: list[Status] = []
    if dataset.state == DatasetState.UNPROCESSED.value:
        return found
    for status in newest_first:
        # The server's own Fail has the fence after the run's, but its claim.
        if dataset.state == DatasetState.RUNNING.value and status.fence != dataset.fence:
            break
        if found and status.claim_id != found[0].claim_id:
            break
        found.append(status)
        if (status.stage, status.state) == (Stage.SETUP, State.START):
            break
    return found


def _stage(stage: Stage, dataset: Dataset, statuses: Sequence[Status]) -> StageLook:
    name = stage.name.capitalize()
    at = {State(status.state): status.created for status in statuses}
    started = at.get(State.START)
    if State.SUCCESS in at:
        return StageLook(name, "completed", "done", started, at[State.SUCCESS])
    if State.FAIL in at:
        return StageLook(name, "failed", "failed", started, at[State.FAIL])
    if State.START in at:
        expired = dataset.lease_expired
        return StageLook(name, EXPIRED if expired else "running", "lease expired" if expired else "running", started)
    return StageLook(name, "unprocessed", "not reached")


def pace(counts: Counts, per_second: float | None) -> str:
    """How fast a project's datasets are completed and how long the rest will take, in words; "" where nobody knows."""
    left = seconds_left(counts.by_state, per_second)
    if per_second is None or left == 0:
        return ""
    size, unit = (3600, "hour") if per_second * 3600 >= 1 else (86400, "day")
    rate = f"{per_second * size:.2g}" if per_second * size < 10 else f"{per_second * size:,.0f}"
    if left is None:
        return f"Nothing is running; lately {rate} per {unit}"
    return f"About {_roughly(left)} left at {rate} per {unit}"


def _roughly(seconds: float) -> str:
    for unit, size in (("days", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 1.5 * size:
            return f"{seconds / size:,.0f} {unit}"
    return "a minute"


@dataclass(frozen=True)
class Shown:
    """An attribute's value: its text, a safe address to link to if any, and a longer form for the tooltip."""

    text: str
    href: str = ""
    title: str = ""
    moment: dt.datetime | None = None


def safe_link(address: str, schemes: Sequence[str] = ("http", "https")) -> str:
    """`address` if a click on it can only open a web page, else nothing."""
    try:
        parts = urlsplit(address)
    except ValueError:
        return ""
    return address if parts.scheme in schemes and parts.netloc else ""


def shown(attribute: Attribute) -> Shown:  # noqa: PLR0911  one line per kind
    """The value of an attribute by its kind."""
    values = attribute.values
    value: Any = values.get("value")
    if None in values.values():
        return Shown("not set")
    match attribute.kind:
        case "filesize":
            return Shown(filesizeformat(value), title=f"{value:,} bytes")
        case "bool":
            return Shown("yes" if value else "no")
        case "url":
            return Shown(str(value), href=safe_link(str(value), ("http", "https", "ftp")))
        case "lat-long":
            return place(float(values["latitude"]), float(values["longitude"]))
        case "date":
            return Shown(f"{value.day} {value:%B} {value.year}", title=value.isoformat())
        case "datetime":
            return Shown(value.isoformat(), moment=value)
    return Shown(str(value))


def place(latitude: float, longitude: float) -> Shown:
    north = f"{abs(latitude):.5f}° {'N' if latitude >= 0 else 'S'}"
    east = f"{abs(longitude):.5f}° {'E' if longitude >= 0 else 'W'}"
    marker = (
        f"https://www.openstreetmap.org/?mlat={latitude:.6f}&mlon={longitude:.6f}#map=8/{latitude:.6f}/{longitude:.6f}"
    )
    return Shown(f"{north}, {east}", href=marker, title=f"{latitude}, {longitude}")


def duration(seconds: float) -> str:
    """Seconds as people say them: 0.4 s, 12 s, 3 min 5 s, 2 h 10 min, 3 d 4 h."""
    if seconds < 10:
        return f"{max(seconds, 0):.1f} s"
    whole = round(seconds)
    for big, small, size in (("d", "h", 86400), ("h", "min", 3600), ("min", "s", 60)):
        if whole >= size:
            rest = whole % size // {"h": 3600, "min": 60, "s": 1}[small]
            return f"{whole // size} {big} {rest} {small}" if rest else f"{whole // size} {big}"
    return f"{whole} s"


@dataclass(frozen=True)
class Field:
    """A field in a line of the audit trail: what it became, and what it was; None of what is new."""

    name: str
    now: str
    was: str | None


def fields(change: Change) -> list[Field]:
    """What the change set, in words; of what is new, not what was left empty."""
    after = change.after or {}
    if change.before is None:
        return [Field(name, _words(value), None) for name, value in after.items() if value not in EMPTY]
    return [Field(name, _words(value), _words(change.before.get(name))) for name, value in after.items()]


EMPTY: tuple[Any, ...] = (None, "", [], {})


def _words(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "\N{EN DASH}" if value in EMPTY else str(value)
