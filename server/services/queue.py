"""Which dataset comes next: unprocessed ones and expired leases, none that is held, higher priority first, then older.

The queries use the claim indexes only, so that their cost does not grow with the number of datasets.
"""

from __future__ import annotations

from django.db.models import QuerySet
from django.utils import timezone

from crunch_tasks.errors import Refused
from server.models import Dataset, Project
from server.models.datasets import DatasetQuerySet

RANK = ("-priority", "pk")


def pick(project: str = "") -> Dataset | None:
    """The next candidate, its row locked until the transaction ends. It may be an expired lease that is used up.

    Raises Refused (404) when there is no project with this slug.
    """
    rows = _rows(project)
    waiting = rows.claimable()
    late = _late(rows)
    pk = None
    # Read before locking: a row that is locked and not taken would look taken to others.
    if (late_rank := _first_rank(late)) and _before(late_rank, _first_rank(waiting)):
        pk = _lock_first(late)
    if pk is None:
        pk = _lock_first(waiting)
    return None if pk is None else Dataset.objects.select_related("project", "claim__cancelled_by").get(pk=pk)


def peek(project: str = "") -> Dataset | None:
    """The dataset that the next claim would take. Changes nothing. Raises Refused as `pick` does."""
    rows = _rows(project)
    related = ("project", "claim")
    late = _late(rows).order_by(*RANK).select_related(*related)
    found = [
        rows.claimable().order_by(*RANK).select_related(*related).first(),
        next((row for row in late.iterator() if not cancelled(row) and not used_up(row)), None),
    ]
    return min((dataset for dataset in found if dataset), key=lambda row: (-row.priority, row.pk), default=None)


def cancelled(dataset: Dataset) -> bool:
    """Whether a person cancelled the dataset's run."""
    return dataset.claim is not None and dataset.claim.cancelled_at is not None


def used_up(dataset: Dataset) -> bool:
    """Whether one more lost lease is one too many for the dataset's project."""
    return dataset.attempt + 1 >= dataset.project.max_attempts


def _rows(project: str) -> DatasetQuerySet:
    if not project:
        return Dataset.objects.all()
    pk = Project.objects.filter(slug=project).values_list("pk", flat=True).first()
    if pk is None:
        raise Refused(f"There is no project {project!r}.", 404, "not_found")
    return Dataset.objects.filter(project=pk)


def _late(rows: DatasetQuerySet) -> DatasetQuerySet:
    return rows.expired(timezone.now()).filter(locked=False)


def _first_rank(rows: QuerySet[Dataset]) -> tuple[int, int] | None:
    first = rows.order_by(*RANK).values_list("priority", "pk").first()
    return first and (-first[0], first[1])


def _before(one: tuple[int, int], other: tuple[int, int] | None) -> bool:
    return other is None or one < other


def _lock_first(rows: QuerySet[Dataset]) -> int | None:
    return rows.order_by(*RANK).select_for_update(skip_locked=True).values_list("pk", flat=True).first()
