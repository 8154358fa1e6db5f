"""How many datasets of a project are in each state: the sums of rows that the database appends, folded now and then.

What a sum costs grows with the changes since the last folding, never with the number of datasets.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from django.db import transaction
from django.db.models import Sum

from server.models import StateCount

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


def fold_in_turn(project: int, number: int) -> None:
    """Fold the project's rows if it is the turn of this claim or dataset, by its `number`."""
    if number % FOLD_EACH == 0:
        fold(project)


def fold(project: int) -> None:
    """Put the project's rows together, one for each state; rows that another folding has in hand are left to it."""
    with transaction.atomic():
        rows = StateCount.objects.select_for_update(skip_locked=True).filter(project=project)
        taken = list(rows.order_by("pk").values_list("pk", "state", "delta")[:FOLDED])
        sums = Counter[str]()
        for _, state, delta in taken:
            sums[state] += delta
        StateCount.objects.filter(pk__in=[pk for pk, _, _ in taken]).delete()
        StateCount.objects.bulk_create(
            StateCount(project_id=project, state=state, delta=delta) for state, delta in sums.items() if delta
        )
