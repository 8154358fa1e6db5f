"""What need not be kept for ever: what old statuses tell of machines, and what has expired.

All in batches, each a short transaction of its own: clients go on while it runs, and it may be stopped at any time.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterator
from typing import Any

from django.contrib.sessions.models import Session
from django.db.models import QuerySet
from django.utils import timezone

from crunch_tasks.contract import DIAGNOSTICS
from server.models import AccessToken, SignInAttempt, Status, WebhookDelivery
from server.models.sign_in import WINDOW

BATCH = 1000
"""How many rows a batch looks at."""

DELIVERIES_KEPT = dt.timedelta(days=30)

BLANK: dict[str, Any] = {name: "" if kind is str else None for name, kind in DIAGNOSTICS.items()}

EXPIRED: dict[str, Callable[[dt.datetime], QuerySet[Any]]] = {
    "attempts to sign in": lambda now: SignInAttempt.objects.filter(at__lt=now - WINDOW),
    "access tokens": lambda now: AccessToken.objects.filter(expires__lt=now),
    "webhook deliveries": lambda now: WebhookDelivery.objects.filter(next_try=None, created__lt=now - DELIVERIES_KEPT),
    "sessions": lambda now: Session.objects.filter(expire_date__lt=now),
}
"""What there is that expires, by its name for people: the rows that are expired at a time."""


def blank_diagnostics(age: dt.timedelta, *, dry_run: bool = False) -> int:
    """Blank the diagnostics of statuses older than `age`; how many had some. Their notes stay."""
    limit = timezone.now() - age
    done = 0
    for batch in _statuses_before(limit):
        told = Status.objects.filter(pk__in=batch).exclude(**BLANK)
        done += told.count() if dry_run else told.update(**BLANK)
    return done


def remove_expired(name: str, *, dry_run: bool = False) -> int:
    """Delete the rows of EXPIRED that are called `name`; how many there were."""
    rows = EXPIRED[name](timezone.now())
    if dry_run:
        return rows.count()
    done = 0
    while batch := list(rows.values_list("pk", flat=True)[:BATCH]):
        rows.filter(pk__in=batch).delete()
        done += len(batch)
    return done


def _statuses_before(limit: dt.datetime) -> Iterator[list[int]]:
    """The numbers of statuses older than that, in batches.

    Statuses are numbered as they come, so the walk ends at the first batch that is too young, and needs no index.
    """
    last = 0
    while True:
        rows = list(Status.objects.filter(pk__gt=last).order_by("pk").values_list("pk", "created")[:BATCH])
        old = [pk for pk, created in rows if created < limit]
        if not old:
            return
        yield old
        last = rows[-1][0]
