"""What `crunch dispatch` decides and says: which datasets to schedule, when to give one up, how it ends. Pure."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import asdict, dataclass, field
from itertools import islice
from typing import Any

from prefect.client.schemas.objects import FlowRun, StateType

from crunch_tasks.contract import DatasetState

TRIES = 3
"""Flow runs of one dataset that a dispatch sees end without having processed it, before it leaves it alone."""
MOST_LEFT = 5
"""Datasets left alone whose flow runs did not complete, before it stops: it is not they that are wrong."""
NAMED = 5
"""Datasets that failed, or were left alone, which its last words name."""
REMEDY = (
    "If no worker has what the dataset needs, start one that has it, or ask for less on the dataset's page or its "
    "project's. Then dispatch again."
)
"""What to do about a dataset that no worker was given."""
PENDING_FOR = dt.timedelta(minutes=3)
"""A flow run that a worker took so long ago and that does not begin is told of: the worker may have died with it."""


@dataclass
class Dispatched:
    """What a dispatch did: how many flow runs it saw begin, the datasets that none of theirs processed, and those of
    which one failed.
    """

    project: str
    runs: int = 0
    left: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)

    @property
    def exit_code(self) -> int:
        return 1 if self.left or self.failed else 0

    def as_json(self) -> dict[str, Any]:
        return {**asdict(self), "exit_code": self.exit_code}


def choose(waiting: Iterable[str], busy: Sequence[str], left: AbstractSet[str], limit: int) -> Iterator[str]:
    """Which datasets to schedule now: those that wait and have no run, as many as `limit` allows beside `busy` ones."""
    free = (slug for slug in waiting if slug not in busy and slug not in left)
    return islice(free, max(0, limit - len(busy)))


def slug_of(run: FlowRun) -> str:
    """The dataset that the flow run is about."""
    return str(run.parameters.get("slug", ""))


def is_of(project: str, busy: Sequence[str]) -> bool:
    """Whether runs for this project are scheduled or running; others may use the same deployment."""
    return any(slug.startswith(f"{project}:") for slug in busy)


def waits(dataset: Mapping[str, Any], lost: Mapping[str, int]) -> bool:
    """Whether a claim could take the dataset now: its run, another dispatch's, may have come and gone meanwhile."""
    return bool(dataset["state"] == DatasetState.UNPROCESSED.value) or is_still_lost(dataset, lost)


def is_still_lost(dataset: Mapping[str, Any], lost: Mapping[str, int]) -> bool:
    """Whether nobody has taken the dataset over since its lease was seen to have expired: `lost` tells of each such
    dataset at which attempt it was.
    """
    attempt = lost.get(str(dataset["slug"]))
    return bool(dataset["state"] == DatasetState.RUNNING.value and dataset["attempt"] == attempt)


def is_stuck(run: FlowRun, now: dt.datetime) -> bool:
    """Whether a worker took the flow run PENDING_FOR ago, and it does not begin."""
    state = run.state
    return state is not None and state.type == StateType.PENDING and state.timestamp < now - PENDING_FOR


def told_stuck(run: FlowRun) -> str:
    return (
        f"{slug_of(run)}: a worker took its flow run {run.name}, which does not begin. If that worker has died, "
        f"`prefect flow-run cancel {run.id}` frees its place; an automation of `crunch up` and of "
        "`python -m deployments` does it in the end."
    )


def told_left(slug: str, last: FlowRun) -> str:
    """Why the dataset is left alone, whose last flow run this is."""
    why = "Prefect's pages say why."
    if last.state_type == StateType.COMPLETED:
        # It ended as Idle: the server gave the dataset to no worker that asked.
        why = f"{(last.state and last.state.message) or why} {REMEDY}"
    return f"{slug} is left alone: {TRIES} flow runs ended without processing it. {why}"


def told_names(slugs: Sequence[str], what: str, why: str) -> str:
    """How many datasets had this end, and the first of them."""
    names = ", ".join(slugs[:NAMED]) + (" and others" if len(slugs) > NAMED else "")
    return f"{len(slugs)} {what}: {names}. {why}"
