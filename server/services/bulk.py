"""What a person decides about many datasets of a project at once: process them once more, hold, let go.

In batches, each a short transaction of its own, so that claims and statuses of other datasets do not wait for long; of
an act that is interrupted a part is done, and doing it again does the rest.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from django.db import transaction
from django.db.models import Count, F, Q
from django.utils import timezone

from crunch_tasks.contract import DatasetState
from server.models import Claim, Dataset
from server.models.claims import ClaimEnd
from server.models.datasets import DatasetQuerySet
from server.services import life
from server.services.selection import Selection

LISTED = 100
"""How many of the datasets are named."""

BATCH = 1000


class Operation(StrEnum):
    RETRY = "retry"
    """Make those that failed unprocessed again."""
    RESET = "reset"
    """Make all unprocessed again, also what is completed or running; a run that goes on has lost its dataset."""
    HOLD = "hold"
    LET_GO = "let-go"


@dataclass(frozen=True)
class Outcome:
    """How many datasets an act changed, or would change; the slugs of the first LISTED; how many were held before, and
    how many were running.
    """

    count: int = 0
    slugs: list[str] = field(default_factory=list)
    held: int = 0
    running: int = 0


def perform(chosen: Selection, operation: Operation, *, dry_run: bool = False) -> Outcome:
    """Do `operation` to those of the chosen datasets that it changes."""
    rows = _changed_by(operation, chosen.rows()).order_by("key")
    slugs = list(rows.values_list("slug", flat=True)[:LISTED])
    sums = _sums(rows) if dry_run else _in_batches(rows, operation)
    return Outcome(slugs=slugs, **sums)


def _changed_by(operation: Operation, rows: DatasetQuerySet) -> DatasetQuerySet:
    if operation == Operation.RETRY:
        return rows.failed()
    if operation == Operation.RESET:
        return rows.exclude(state=DatasetState.UNPROCESSED.value)
    return rows.filter(locked=operation == Operation.LET_GO)


def _sums(rows: DatasetQuerySet) -> dict[str, int]:
    running = Q(state=DatasetState.RUNNING.value)
    return rows.order_by().aggregate(
        count=Count("pk"), held=Count("pk", filter=Q(locked=True)), running=Count("pk", filter=running)
    )


def _in_batches(rows: DatasetQuerySet, operation: Operation) -> dict[str, int]:
    count = held = running = 0
    last = ""
    while True:
        with transaction.atomic():
            after = rows.filter(key__gt=last).select_for_update()
            batch = list(after.values_list("pk", "key", "locked", "state")[:BATCH])
            if not batch:
                return {"count": count, "held": held, "running": running}
            _change([pk for pk, *_ in batch], operation)
        last = batch[-1][1]
        count += len(batch)
        held += sum(locked for *_, locked, _ in batch)
        running += sum(state == DatasetState.RUNNING.value for *_, state in batch)


def _change(pks: Sequence[int], operation: Operation) -> None:
    changes: dict[str, Any] = {"locked": operation == Operation.HOLD}
    if operation in (Operation.RETRY, Operation.RESET):
        ended = {"ended": timezone.now(), "end_reason": ClaimEnd.RESET}
        Claim.objects.filter(dataset__in=pks, ended=None).update(**ended)
        changes = {"fence": F("fence") + 1, **life.start_over()}
    Dataset.objects.filter(pk__in=pks).update(**changes)
