"""The grid of datasets and their stages: one page of a selection, in an order that an index has.

A page begins after the last row of the page before, wherever that is, so that the millionth costs what the first does.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from crunch_tasks.contract import DatasetState
from server import keyset
from server.models import Dataset, Failure, Project
from server.pages.looks import StageLook, attempt_number, cells
from server.pages.paging import ROWS
from server.services.running import Progress, progress
from server.services.selection import Selection

NAME, UPDATED, UNCHANGED = "name", "updated", "unchanged"
ORDERS = {
    NAME: "By name",
    UPDATED: "Last updated",
    UNCHANGED: "Longest unchanged",
}
"""The orders that an index has, with and without a state."""

_COLUMNS = {NAME: ("key",), UPDATED: ("updated", "pk"), UNCHANGED: ("updated", "pk")}

COLUMNS = ("name", "slug", "key", "state", "locked", "attempt", "progress", "lease_expires", "stage", "stage_state")
"""What a row shows, besides `updated`; a dataset's longer texts are not read."""


@dataclass(frozen=True)
class Row:
    """A dataset in the grid."""

    dataset: Dataset
    cells: list[StageLook]
    progress: Progress | None
    attempt: int | None


@dataclass(frozen=True)
class GridPage:
    """Some rows, and the cursors of the pages before and after them; an empty one where there is none."""

    rows: list[Row]
    before: str
    after: str


def selection(project: Project, query: Mapping[str, str]) -> Selection:
    """What an address asks for; what makes no sense in it is as if it were not there."""
    state, failure = query.get("state", ""), query.get("failure", "")
    return Selection(
        project,
        state=state if state in list(DatasetState) else "",
        text=query.get("q", "").strip(),
        failure=int(failure) if re.fullmatch(r"[0-9]{1,18}", failure) else None,
    )


def failure(chosen: Selection) -> Failure | None:
    """What the chosen datasets failed of, where that was asked for."""
    return chosen.project.failures.filter(pk=chosen.failure).first() if chosen.failure else None


def order(chosen: Selection, query: Mapping[str, str]) -> str:
    """One of ORDERS; a selection that only an index of names has comes by name."""
    asked = query.get("sort", NAME)
    return asked if asked in ORDERS and not chosen.by_key else NAME


def page(chosen: Selection, by: str, query: Mapping[str, str]) -> GridPage:
    """The page after the cursor `after`, before the cursor `before`, or the first one. Two queries at most."""
    after, before = _read(by, query.get("after", "")), _read(by, query.get("before", ""))
    datasets = chosen.rows().only(*COLUMNS, "updated")
    found = keyset.part(datasets, _COLUMNS[by], ROWS, after, before, down=by == UPDATED)
    rows = [
        Row(dataset, cells(dataset), progress(dataset.progress), attempt_number(dataset, chosen.project.max_attempts))
        for dataset in found.rows
    ]
    return GridPage(
        rows,
        before=cursor(by, rows[0].dataset) if rows and found.before else "",
        after=cursor(by, rows[-1].dataset) if rows and found.after else "",
    )


def cursor(by: str, dataset: Dataset) -> str:
    """Where the dataset stands in this order, as the addresses of pages say it."""
    if by == NAME:
        return str(dataset.key)
    return f"{keyset.microseconds(dataset.updated)}-{dataset.pk}"


def _read(by: str, text: str) -> tuple[Any, ...] | None:
    """The place that a cursor's text names: a key, or a time and a dataset's number; None for none and for nonsense."""
    if by == NAME:
        # PostgreSQL refuses a NUL.
        return (text,) if text and "\x00" not in text else None
    found = re.fullmatch(r"([0-9]{1,16})-([0-9]{1,18})", text)
    return (keyset.moment(int(found[1])), int(found[2])) if found else None
