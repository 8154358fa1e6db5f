"""What a person decides about many datasets of a project at once: process them once more, hold, let go.

In batches, each a short transaction of its own, so that claims and statuses of other datasets do not wait for long; of
an act that is interrupted a part is done and noted, and doing it again does the rest.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from django.db import transaction
from django.db.models import Count, F, Q
from django.utils import timezone

from crunch_tasks.contract import DatasetState
from server.models import Change, Claim, Dataset
from server.models.claims import ClaimEnd
from server.models.datasets import DatasetQuerySet
from server.permissions import Actor
from server.services import audit, counts, life
from server.services.selection import Selection

LISTED = 100
"""How many of the datasets are named."""

BATCH = 1000

MOST_COUNTED = 10_000
"""How many datasets of a search are counted; the numbers of other selections are kept."""


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
    how many were running. `more`: they are more than MOST_COUNTED, and the numbers are those of the first ones.
    """

    count: int = 0
    slugs: list[str] = field(default_factory=list)
    held: int = 0
    running: int = 0
    more: bool = False


def perform(chosen: Selection, operation: Operation, *, dry_run: bool = False, actor: Actor | None = None) -> Outcome:
    """Do `operation` to those of the chosen datasets that it changes. With an `actor` the audit trail tells of it."""
    rows = _changed_by(operation, chosen.rows()).order_by("key")
    if dry_run:
        return _counted(rows) if chosen.text else _foreseen(chosen, operation, rows)
    slugs = _slugs(rows)
    trail = Trail(chosen, operation, actor) if actor else None
    count, held, running = _in_batches(rows, operation, trail)
    return Outcome(count, slugs, held, running)


def _changed_by(operation: Operation, rows: DatasetQuerySet) -> DatasetQuerySet:
    if operation == Operation.RETRY:
        return rows.failed()
    if operation == Operation.RESET:
        return rows.exclude(state=DatasetState.UNPROCESSED.value)
    return rows.filter(locked=operation == Operation.LET_GO)


def _slugs(rows: DatasetQuerySet) -> list[str]:
    return list(rows.values_list("slug", flat=True)[:LISTED])


def _counted(rows: DatasetQuerySet) -> Outcome:
    """What would be done to the rows of a search, which have to be counted."""
    running = Q(state=DatasetState.RUNNING.value)
    sums = rows.order_by()[: MOST_COUNTED + 1].aggregate(
        count=Count("pk"), held=Count("pk", filter=Q(locked=True)), running=Count("pk", filter=running)
    )
    more = sums["count"] > MOST_COUNTED
    return Outcome(slugs=_slugs(rows), more=more, **sums | {"count": min(sums["count"], MOST_COUNTED)})


def _foreseen(chosen: Selection, operation: Operation, rows: DatasetQuerySet) -> Outcome:
    """What would be done to a selection without a search, from the numbers that are kept; an index has those held."""
    held = chosen.rows().filter(locked=True).order_by().values_list("state").annotate(Count("pk"))
    held_by_state = Counter[str](dict(held))
    changed = changed_numbers(operation, _kept(chosen), held_by_state)
    # An index has the datasets of each state by name, but not those of some states.
    first: list[tuple[str, str]] = []
    for state in changed:
        first += rows.filter(state=state).values_list("key", "slug")[:LISTED]
    return Outcome(
        count=changed.total(),
        slugs=[slug for _, slug in sorted(first)[:LISTED]],
        held=0 if operation == Operation.HOLD else sum(held_by_state[state] for state in changed),
        running=changed[DatasetState.RUNNING.value],
    )


def _kept(chosen: Selection) -> Counter[str]:
    """How many datasets of the selection are in each state."""
    project = chosen.project.pk
    if chosen.failure is None:
        found = counts.by_state([project])[project]
    else:
        found = Counter({DatasetState.FAILED.value: counts.by_failure(project).get(chosen.failure, 0)})
    return Counter({state: number for state, number in found.items() if chosen.state in ("", state)})


def changed_numbers(operation: Operation, every: Mapping[str, int], held: Mapping[str, int]) -> Counter[str]:
    """Of so many datasets in each state, and so many of them held, those that the operation changes.

    | operation | changes |
    |---|---|
    | retry | all that are failed |
    | reset | all that are not unprocessed |
    | hold | all that are not held |
    | let go | all that are held |
    """
    if operation == Operation.RETRY:
        found = {state: number for state, number in every.items() if state == DatasetState.FAILED.value}
    elif operation == Operation.RESET:
        found = {state: number for state, number in every.items() if state != DatasetState.UNPROCESSED.value}
    elif operation == Operation.HOLD:
        found = {state: number - held.get(state, 0) for state, number in every.items()}
    else:
        found = dict(held)
    return +Counter(found)


@dataclass
class Trail:
    """The line of the audit trail: written with the first batch, and with each further one its count."""

    chosen: Selection
    operation: Operation
    actor: Actor
    line: Change | None = None

    def note(self, count: int) -> None:
        told = self.chosen.told(count)
        if self.line is None:
            project = self.chosen.project
            self.line = audit.note(self.actor, self.operation.value, project.slug, project, after=told)
        else:
            audit.amend(self.line, {"count": count})


def _in_batches(rows: DatasetQuerySet, operation: Operation, trail: Trail | None) -> tuple[int, int, int]:
    """Do it; how many datasets were changed, how many of them were held, and how many running."""
    count = held = running = 0
    last = ""
    while True:
        with transaction.atomic():
            after = rows.filter(key__gt=last).select_for_update()
            batch = list(after.values_list("pk", "key", "locked", "state")[:BATCH])
            if not batch:
                return count, held, running
            _change([pk for pk, *_ in batch], operation)
            count += len(batch)
            if trail:
                trail.note(count)
        last = batch[-1][1]
        held += sum(locked for *_, locked, _ in batch)
        running += sum(state == DatasetState.RUNNING.value for *_, state in batch)


def _change(pks: Sequence[int], operation: Operation) -> None:
    changes: dict[str, Any] = {"locked": operation == Operation.HOLD}
    if operation in (Operation.RETRY, Operation.RESET):
        ended = {"ended": timezone.now(), "end_reason": ClaimEnd.RESET}
        Claim.objects.filter(dataset__in=pks, ended=None).update(**ended)
        changes = {"fence": F("fence") + 1, **life.start_over()}
    Dataset.objects.filter(pk__in=pks).update(**changes)
