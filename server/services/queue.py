"""Which dataset comes next: unprocessed ones and expired leases, none that is held, higher priority first, then older.

The queries use the claim indexes only, so that their cost does not grow with the number of datasets.
"""

from __future__ import annotations

from typing import NamedTuple

from django.db.models import OuterRef, QuerySet, Subquery
from django.utils import timezone

from server.models import Dataset, Project
from server.models.datasets import DatasetQuerySet

RANK = ("-priority", "pk")


def pick(projects: QuerySet[Project]) -> Dataset | None:
    """The next candidate of these projects, its row locked until the transaction ends.

    It may be an expired lease that is used up. A paused project has none.
    """
    heads = _heads(projects)
    late = _late(projects)
    found = None
    # Read before locking: a row that is locked and not taken would look taken to others.
    if (late_rank := _first_rank(late)) and (not heads or late_rank < heads[0].rank):
        found = _lock_first(late)
    for head in heads:
        if found is None:
            found = _lock_first(Dataset.objects.claimable().filter(project=head.project))
    return found


def peek(projects: QuerySet[Project]) -> Dataset | None:
    """The dataset of these projects that the next claim would take. Changes nothing."""
    related = Dataset.objects.select_related("project", "claim")
    late = _late(projects).order_by(*RANK).select_related("project", "claim")
    found = [
        *(related.get(pk=head.rank[1]) for head in _heads(projects)[:1]),
        next((row for row in late.iterator() if not cancelled(row) and not used_up(row)), None),
    ]
    return min((dataset for dataset in found if dataset), key=lambda row: (-row.priority, row.pk), default=None)


def cancelled(dataset: Dataset) -> bool:
    """Whether a person cancelled the dataset's run."""
    return dataset.claim is not None and dataset.claim.cancelled_at is not None


def used_up(dataset: Dataset) -> bool:
    """Whether one more lost lease is one too many for the dataset's project."""
    return dataset.attempt + 1 >= dataset.project.max_attempts


class _Head(NamedTuple):
    """The first dataset that waits in a project."""

    rank: tuple[int, int]
    project: int


def _heads(projects: QuerySet[Project]) -> list[_Head]:
    """The first dataset that waits in each project that has one, the next of all first: one look into the claim index
    for each project, however many datasets of others come before.
    """
    rows = _first_waiting(projects)
    return sorted(_Head((-priority, pk), project) for project, priority, pk in rows if pk is not None)


def _first_waiting(projects: QuerySet[Project]) -> QuerySet[Project, tuple[int, int, int]]:
    """Each project's id, with priority and id of its first dataset that waits, null where none does."""
    waiting = Dataset.objects.claimable().filter(project=OuterRef("pk")).order_by(*RANK)
    first = (Subquery(waiting.values(name)[:1]) for name in ("priority", "pk"))
    return projects.filter(paused=False).order_by().values_list("pk", *first)


def _late(projects: QuerySet[Project]) -> DatasetQuerySet:
    open_ones = projects.filter(paused=False).values("pk")
    return Dataset.objects.expired(timezone.now()).filter(locked=False, project__in=open_ones)


def _first_rank(rows: QuerySet[Dataset]) -> tuple[int, int] | None:
    first = rows.order_by(*RANK).values_list("priority", "pk").first()
    return first and (-first[0], first[1])


def _lock_first(rows: QuerySet[Dataset]) -> Dataset | None:
    free = rows.order_by(*RANK).select_for_update(skip_locked=True, of=("self",))
    return free.select_related("project", "parent").first()
