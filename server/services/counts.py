"""How many datasets of a project are in each state, and claims so far: sums of appended rows, folded now and then.

What a sum costs grows with the changes since the last folding, never with the number of datasets.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

from django.db import transaction
from django.db.models import QuerySet, Sum

from crunch_tasks.contract import DatasetState
from server.models import ClaimCount, Dataset, Project, StateCount

FOLD_EACH = 101
"""A folding follows every so many claims and new datasets, of which each appends a few rows. A prime number: projects
that take turns all get theirs."""

FOLDED = 10_000
"""The most rows that one folding takes, so that it is short."""


def by_state(projects: Iterable[int]) -> dict[int, Counter[str]]:
    """For each of these projects (by id) the number of datasets in each state, in one query."""
    found = {pk: Counter[str]() for pk in projects}
    rows = StateCount.objects.filter(project__in=found).order_by().values_list("project", "state")
    for pk, state, number in rows.annotate(Sum("delta")):
        found[pk][state] = number
    return found


def enough_waits(projects: QuerySet[Project]) -> bool:
    """Whether more datasets of these projects can be claimed than are running, so that each client could have its next
    one. As many rows of the claim index are passed over as are running, a few for each client.
    """
    open_ones = projects.filter(paused=False).order_by().values("pk")
    rows = StateCount.objects.filter(project__in=open_ones, state=DatasetState.RUNNING.value)
    running: int = rows.aggregate(all=Sum("delta"))["all"] or 0
    return Dataset.objects.claimable().filter(project__in=open_ones).order_by()[running : running + 1].exists()


def by_failure(project: int) -> dict[int, int]:
    """How many datasets of the project are failed of which `Failure` (by id) now, in one query."""
    rows = StateCount.objects.filter(project=project, state=DatasetState.FAILED.value, failure__isnull=False).order_by()
    sums = rows.values_list("failure").annotate(size=Sum("delta"))
    return {failure: size for failure, size in sums if size}


def by_slug_and_state() -> Iterable[tuple[str, str, int]]:
    """The slug of each project, a state, and how many of its datasets are in that, in one query."""
    rows = StateCount.objects.order_by().values_list("project__slug", "state")
    return rows.annotate(Sum("delta"))


def of_claims() -> Counter[str]:
    """How many claims were granted, and ended in each of the ways of `ClaimEnd`, in one query."""
    rows = ClaimCount.objects.order_by().values_list("event")
    return Counter(dict(rows.annotate(Sum("delta"))))


def fold_in_turn(project: int, number: int) -> None:
    """Fold the project's rows, and those of claims, if it is the turn of this claim or dataset, by its `number`."""
    if number % FOLD_EACH == 0:
        fold(project)
        fold_claims()


def fold(project: int) -> None:
    """Put the project's rows together, one for each state and failure; rows that another folding has are left to it."""
    with transaction.atomic():
        sums = _take(StateCount.objects.filter(project=project), "state", "failure")
        StateCount.objects.bulk_create(
            StateCount(project_id=project, state=state, failure=failure, delta=delta)
            for (state, failure), delta in sums.items()
            if delta
        )


def fold_claims() -> None:
    """The same for the rows of claims, one for each event."""
    with transaction.atomic():
        sums = _take(ClaimCount.objects.all(), "event")
        ClaimCount.objects.bulk_create(ClaimCount(event=event, delta=delta) for (event,), delta in sums.items())


def _take(rows: QuerySet[Any], *of: str) -> Counter[tuple[Any, ...]]:
    """Take out the oldest FOLDED of the rows that nobody has in hand, and return the sum for each values of `of`."""
    free = rows.select_for_update(skip_locked=True).order_by("pk")
    taken = list(free.values_list("pk", "delta", *of)[:FOLDED])
    sums = Counter[tuple[Any, ...]]()
    for _, delta, *values in taken:
        sums[tuple(values)] += delta
    rows.filter(pk__in=[pk for pk, *_ in taken]).delete()
    return sums
