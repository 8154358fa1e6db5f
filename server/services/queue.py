"""Which dataset comes next: unprocessed ones and expired leases, none that is held, higher priority first, then older.

Only those that ask for nothing that the claim does not offer. The queries use the claim indexes only, so that their
cost does not grow with the number of datasets.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from operator import attrgetter
from typing import Any, NamedTuple

from django.core.exceptions import EmptyResultSet, ValidationError
from django.db import connection
from django.db.models import QuerySet
from django.utils import timezone

from crunch_tasks.needs import Resources, parse
from server.models import Dataset, Project
from server.models.datasets import DatasetQuerySet
from server.services import forecast

RANK = ("-priority", "pk")

MOST_KINDS = 100
"""So many different texts of needs wait in a project at most: each costs a claim a few looks into the index."""

NAMED = 5
"""So many kinds of datasets that do not fit are told of; of others, that there are some."""

_WAITS = "d.state = 'unprocessed' AND NOT d.locked"
_EXPIRED = "d.state = 'running' AND d.lease_expires <= %s AND NOT d.locked"

# From one text of needs to the next in the index: Django has no words for a query that steps.
_HEADS = f"""
WITH RECURSIVE ready(project, own) AS ({{projects}}), kind(project, own, needs) AS (
    SELECT project, own, (
        SELECT d.needs FROM server_dataset AS d
        WHERE d.project_id = ready.project AND {_WAITS} ORDER BY d.needs LIMIT 1
    ) FROM ready
    UNION ALL
    SELECT project, own, (
        SELECT d.needs FROM server_dataset AS d
        WHERE d.project_id = kind.project AND d.needs > kind.needs AND {_WAITS} ORDER BY d.needs LIMIT 1
    ) FROM kind WHERE needs IS NOT NULL
)
SELECT project, own, needs, (
    SELECT d.priority FROM server_dataset AS d
    WHERE d.project_id = kind.project AND d.needs = kind.needs AND {_WAITS}
    ORDER BY d.priority DESC, d.item_ptr_id LIMIT 1
), (
    SELECT d.item_ptr_id FROM server_dataset AS d
    WHERE d.project_id = kind.project AND d.needs = kind.needs AND {_WAITS}
    ORDER BY d.priority DESC, d.item_ptr_id LIMIT 1
)
FROM kind WHERE needs IS NOT NULL
"""  # noqa: S608 - of this file's own words

# A claim asks for it along with the first one: each query more is felt there.
_EXPIRED_KINDS = f"""
UNION ALL
SELECT DISTINCT ready.project, own, d.needs, CAST(NULL AS integer), CAST(NULL AS bigint)
FROM server_dataset AS d JOIN ready ON ready.project = d.project_id WHERE {_EXPIRED}
"""  # noqa: S608 - of this file's own words


class Offer(NamedTuple):
    """What a claim offers to the dataset that it gets."""

    resources: Resources = Resources()
    seconds: float | None = None
    """How long its client may still work; None: there is no end."""


NO_OFFER = Offer()
"""That of a client which says nothing of its machine: it gets what asks for nothing."""


def pick(projects: QuerySet[Project], offer: Offer = NO_OFFER) -> Dataset | None:
    """The next candidate of these projects that fits, its row locked until the transaction ends.

    It may be an expired lease that is used up. A paused project has none.
    """
    heads, late = _fitting(projects, offer)
    found = None
    # Read before locking: a row that is locked and not taken would look taken to others.
    if (late_rank := _first_rank(late)) and (not heads or late_rank < heads[0].rank):
        found = _lock_first(late)
    for head in heads:
        if found is None:
            found = _lock_first(Dataset.objects.claimable().filter(project=head.project, needs=head.needs))
    return found


def peek(projects: QuerySet[Project], offer: Offer = NO_OFFER) -> Dataset | None:
    """The dataset of these projects that the next claim with this offer would take. Changes nothing."""
    related = Dataset.objects.select_related("project", "claim")
    heads, late = _fitting(projects, offer)
    rows = late.order_by(*RANK).select_related("project", "claim")
    found = [
        *(related.get(pk=head.rank[1]) for head in heads[:1]),
        next((row for row in rows.iterator() if not cancelled(row) and not used_up(row)), None),
    ]
    return min((dataset for dataset in found if dataset), key=lambda row: (-row.priority, row.pk), default=None)


def unfit(projects: QuerySet[Project], offer: Offer) -> str:
    """A sentence on the datasets of these projects that wait and do not fit the offer; empty when none waits."""
    heads, _ = _kinds(projects.filter(paused=False), expired=False)
    slugs = dict(Project.objects.filter(pk__in={head.project for head in heads}).values_list("pk", "slug"))
    asking = {f"{slugs[head.project]} asks for {head.lacking(offer)}" for head in heads if not head.fits(offer)}
    times = forecast.too_long(slugs.keys(), offer.seconds)
    slow = {
        f"{slugs[head.project]} may take {_minutes(times[head.project])}, and {_minutes(offer.seconds or 0)} are left"
        for head in heads
        if head.fits(offer) and head.project in times
    }
    told = [*sorted(asking), *sorted(slow)]
    if not told:
        return ""
    more = ["..."] if len(told) > NAMED else []
    lacks = [*(["fits this machine"] if asking else []), *(["would be done in time"] if slow else [])]
    return f"Datasets wait, but none {' and '.join(lacks)}: {'; '.join([*told[:NAMED], *more])}."


def misfit(dataset: Dataset, offer: Offer) -> str:
    """A sentence on why the dataset does not fit the offer; empty when it does."""
    kind = _Kind(dataset.project_id, dataset.project.needs, dataset.needs)
    if not kind.fits(offer):
        return f"{dataset.slug} does not fit this machine: it asks for {kind.lacking(offer)}."
    times = forecast.too_long([dataset.project_id], offer.seconds)
    if dataset.project_id in times:
        takes, left = _minutes(times[dataset.project_id]), _minutes(offer.seconds or 0)
        return f"{dataset.slug} does not fit: it may take {takes}, and {left} are left."
    return ""


def check_kinds(project: Project, needs: Collection[str]) -> None:
    """Raises ValidationError if datasets that wait in the project would ask for too many different things with these
    texts. What asks as its project does is not looked at.
    """
    if not (asked := {text for text in needs if text}):
        return
    heads, _ = _kinds(Project.objects.filter(pk=project.pk), expired=False)
    there = {head.needs for head in heads}
    if len(there | asked) > MOST_KINDS:
        told = f"Datasets that wait in a project ask for at most {MOST_KINDS} different things. Ask in rounder numbers."
        raise ValidationError({"needs": told})


def cancelled(dataset: Dataset) -> bool:
    """Whether a person cancelled the dataset's run."""
    return dataset.claim is not None and dataset.claim.cancelled_at is not None


def used_up(dataset: Dataset) -> bool:
    """Whether one more lost lease is one too many for the dataset's project."""
    return dataset.attempt + 1 >= dataset.project.max_attempts


@dataclass(frozen=True)
class _Kind:
    """The datasets of a project with the same text of needs."""

    project: int
    own: str
    """What the project asks of a machine."""
    needs: str

    def lacking(self, offer: Offer) -> Resources:
        return offer.resources.lacks(parse(self.needs or self.own))

    def fits(self, offer: Offer) -> bool:
        return self.lacking(offer) == Resources()


@dataclass(frozen=True)
class _Head(_Kind):
    """The first one of its kind that waits."""

    rank: tuple[int, int]


def _minutes(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"


def _fitting(projects: QuerySet[Project], offer: Offer) -> tuple[list[_Head], DatasetQuerySet]:
    """The heads of these projects that the offer fits, the next of all first, and its datasets whose lease has expired
    that it fits; no query where no lease has.
    """
    open_ones = projects.filter(paused=False)
    heads, expired = _kinds(open_ones, expired=True)
    slow = forecast.too_long({kind.project for kind in (*heads, *expired)}, offer.seconds)
    late = Dataset.objects.none()
    if expired:
        late = Dataset.objects.expired(timezone.now()).filter(locked=False, project__in=open_ones.values("pk"))
    for kind in expired:
        if kind.project in slow or not kind.fits(offer):
            late = late.exclude(project=kind.project, needs=kind.needs)
    return [head for head in heads if head.project not in slow and head.fits(offer)], late


def _kinds(projects: QuerySet[Project], *, expired: bool) -> tuple[list[_Head], list[_Kind]]:
    """The first dataset that waits of each project and of each text of needs in it, the next of all first: two looks
    into the claim index for each, however many datasets of others come before. And, if asked, the kinds of `expired`
    leases.
    """
    try:
        query, values = kinds(projects, expired=expired)
    except EmptyResultSet:
        return [], []
    with connection.cursor() as cursor:
        cursor.execute(query, values)
        rows = cursor.fetchall()
    heads = [_Head(project, own, needs, (-priority, pk)) for project, own, needs, priority, pk in rows if pk]
    late = [_Kind(project, own, needs) for project, own, needs, _, pk in rows if not pk]
    return sorted(heads, key=attrgetter("rank")), late


def kinds(projects: QuerySet[Project], *, expired: bool = True) -> tuple[str, tuple[Any, ...]]:
    """The query, and its values, for each project and text of needs of a dataset that can be claimed: the project's id
    and its own needs, that text, and priority and id of the first such dataset that waits, or none of those for
    `expired` leases. Raises EmptyResultSet for no projects.
    """
    query, values = projects.order_by().values("pk", "needs").query.sql_with_params()
    if not expired:
        return _HEADS.format(projects=query), values
    now = connection.ops.adapt_datetimefield_value(timezone.now())
    return (_HEADS + _EXPIRED_KINDS).format(projects=query), (*values, now)


def _first_rank(rows: QuerySet[Dataset]) -> tuple[int, int] | None:
    first = rows.order_by(*RANK).values_list("priority", "pk").first()
    return first and (-first[0], first[1])


def _lock_first(rows: QuerySet[Dataset]) -> Dataset | None:
    free = rows.order_by(*RANK).select_for_update(skip_locked=True, of=("self",))
    found = free.select_related("project").first()
    if found is not None:
        # Its parent is its project: the same item is not read twice.
        found.parent = found.project.item_ptr
    return found
