"""Webhooks of projects: made, told in the transaction of the change, and what is due taken by one process at a time.

What people do to them is noted in the audit trail.
"""

from __future__ import annotations

import datetime as dt
import json
import secrets
from collections.abc import Iterable
from typing import Any, cast
from urllib.parse import urlsplit

from django.conf import settings
from django.contrib.auth.models import User
from django.db import transaction
from django.utils import timezone

from crunch_tasks.contract import Stage, State
from crunch_tasks.errors import Refused
from server.models import Dataset, Project, Status, Webhook, WebhookDelivery, WebhookEvent
from server.models.webhooks import URL_LENGTH
from server.permissions import Actor
from server.services import audit
from server.webhooks import background, sending

MOST = 20
"""How many webhooks a project may have."""

NOTE_LENGTH = 2000

BACKOFF = [dt.timedelta(minutes=minutes) for minutes in (1, 5, 30, 2 * 60, 6 * 60, 24 * 60)]
"""How long after each attempt that failed the next one follows; after the last it is given up."""

HELD = dt.timedelta(minutes=1)
"""A process that took a delivery and is not heard of again is followed by another after so long."""


def allow_private() -> bool:
    """Whether webhooks may lead to addresses that only the server's own network can reach."""
    return bool(getattr(settings, "WEBHOOKS_PRIVATE", False))


def create(actor: Actor, project: Project, url: str, events: Iterable[str]) -> Webhook:
    """A new webhook, with a secret of its own. Raises Refused: 400 `bad_address`, `no_events`, 409 `too_many`."""
    if problem := sending.problem_of(url, private=allow_private()):
        raise Refused(problem, 400, "bad_address")
    if len(url) > URL_LENGTH:
        raise Refused(f"The address is longer than {URL_LENGTH} characters.", 400, "bad_address")
    wanted = sorted(set(events) & set(WebhookEvent.values))
    if not wanted:
        raise Refused("Choose at least one of completed and failed.", 400, "no_events")
    if project.webhooks.count() >= MOST:
        raise Refused(f"{project.slug} has {MOST} webhooks already. Remove some of them first.", 409, "too_many")
    # 43 characters after the prefix, by which the log knows what to strike out.
    secret = f"crunch_hook_{secrets.token_urlsafe(28)}"
    values = {"url": url, "secret": secret, "events": wanted, "created_by": cast("User", actor.user)}
    with transaction.atomic():
        made = Webhook.objects.create(project=project, **values)
        _note(actor, "make webhook", made)
    return made


def set_active(actor: Actor, hook: Webhook, active: bool) -> None:
    """Stop it, or start it again. While it is stopped nothing is noted for it, and what is due waits."""
    hook.active = active
    with transaction.atomic():
        hook.save(update_fields=["active"])
        _note(actor, "edit webhook", hook, after={"active": active})
        transaction.on_commit(background.worker.wake)


def remove(actor: Actor, hook: Webhook) -> None:
    """Remove it, and what was to be sent to it."""
    with transaction.atomic():
        _note(actor, "remove webhook", hook)
        hook.delete()


def _note(actor: Actor, act: str, hook: Webhook, **values: Any) -> None:
    audit.note(actor, act, site_of(hook.url)[:255], hook.project, **values)


def site_of(url: str) -> str:
    """Scheme and host of an address. The rest may be as good as a password, and viewers read the audit trail."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"


def announce(dataset: Dataset, event: WebhookEvent, status: Status) -> None:
    """Tell the project's webhooks, in the transaction of the change: what is undone is told to nobody."""
    rows = Webhook.objects.filter(project=dataset.project_id, active=True)
    hooks = [hook for hook in rows if event.value in hook.events]
    if not hooks:
        return
    body = _body(dataset, event, status)
    now = timezone.now()
    WebhookDelivery.objects.bulk_create(
        WebhookDelivery(webhook=hook, event=event.value, dataset=dataset.slug, body=body, next_try=now)
        for hook in hooks
    )
    transaction.on_commit(background.worker.wake)


def _body(dataset: Dataset, event: WebhookEvent, status: Status) -> str:
    return json.dumps(
        {
            "event": event.value,
            "project": dataset.project.slug,
            "dataset": dataset.slug,
            "fence": status.fence,
            "status": status.pk,
            "stage": Stage(status.stage).name.lower(),
            "state": State(status.state).name.lower(),
            "note": status.note[:NOTE_LENGTH],
            "manifest_sha256": status.manifest_sha256,
            "time": status.created.isoformat(),
        }
    )


def send_again(actor: Actor, delivery: WebhookDelivery) -> None:
    """Send it once more, from the first attempt on, whatever became of it. Raises Refused: 409 `stopped`."""
    if not delivery.webhook.active:
        raise Refused("The webhook is stopped: start it first.", 409, "stopped")
    again = {"next_try": timezone.now(), "attempts": 0, "delivered_at": None, "answer": None, "problem": ""}
    with transaction.atomic():
        WebhookDelivery.objects.filter(pk=delivery.pk).update(**again)
        audit.note(actor, "send again", delivery.dataset, delivery.webhook.project)
        transaction.on_commit(background.worker.wake)


def take_due(most: int) -> list[WebhookDelivery]:
    """Deliveries that are due, now this process's own for a while: no other one sends them meanwhile.

    By compare-and-swap on the number of attempts, and without a transaction: no lock is held while the network is slow.
    """
    now = timezone.now()
    rows = WebhookDelivery.objects.filter(next_try__lte=now, webhook__active=True).select_related("webhook")
    return [row for row in rows.order_by("next_try")[:most] if _take(row, now)]


def _take(row: WebhookDelivery, now: dt.datetime) -> bool:
    same = WebhookDelivery.objects.filter(pk=row.pk, attempts=row.attempts, next_try=row.next_try)
    row.attempts, row.next_try = row.attempts + 1, now + HELD
    return same.update(attempts=row.attempts, next_try=row.next_try) == 1


def note_outcome(row: WebhookDelivery, outcome: sending.Outcome) -> None:
    """Keep what became of an attempt, unless somebody asked meanwhile to send it again."""
    now = timezone.now()
    WebhookDelivery.objects.filter(pk=row.pk, attempts=row.attempts, next_try=row.next_try).update(
        next_try=None if outcome.good else next_try(row.attempts, now),
        delivered_at=now if outcome.good else None,
        answer=outcome.answer,
        problem=outcome.problem,
    )


def next_try(attempts: int, now: dt.datetime) -> dt.datetime | None:
    """When to try again after so many attempts that failed; None: it is given up."""
    return now + BACKOFF[attempts - 1] if attempts <= len(BACKOFF) else None


def deliver(most: int = 20) -> int:
    """Send what is due, `most` at a time, until nothing is; how many attempts that were."""
    done = 0
    context = None
    while taken := take_due(most):
        context = context or sending.trust()
        letters = [sending.Letter(row.pk, row.webhook.url, row.webhook.secret, row.event, row.body) for row in taken]
        for row, outcome in zip(taken, sending.send(letters, context, private=allow_private()), strict=True):
            note_outcome(row, outcome)
        done += len(taken)
    return done
