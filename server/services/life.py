"""The moves of a dataset's life that claims, statuses and resets share. All run inside the caller's transaction."""

from __future__ import annotations

import datetime as dt
from typing import Any

from django.contrib.auth.models import User
from django.utils import timezone

from crunch_tasks.contract import DatasetState, Stage, State
from crunch_tasks.errors import Refused
from server import signatures
from server.models import Claim, Dataset, Failure, LogTail, Status, WebhookEvent
from server.models.claims import ClaimEnd
from server.services import queue, webhooks

NO_LEASE = {"lease_owner": None, "lease_expires": None, "claim": None, "progress": None}


def unsaid() -> dict[str, Any]:
    """The columns of a dataset whose next run has not said anything yet."""
    return {"stage": None, "stage_state": None, "failure": None, "updated": timezone.now()}


def start_over() -> dict[str, Any]:
    """The columns of a dataset that is to be processed anew, but for its fence, which has to grow."""
    return {"state": DatasetState.UNPROCESSED.value, "attempt": 0, **NO_LEASE, **unsaid()}


def said(status: Status) -> dict[str, Any]:
    """The columns of a dataset whose last status that counts is this one."""
    return {"stage": status.stage, "stage_state": status.state, "updated": status.created}


def locked_row(pk: int) -> Dataset:
    """The dataset as it is now; nobody else changes it until the transaction ends."""
    locked = Dataset.objects.select_for_update().filter(pk=pk).values_list("pk", flat=True)
    if locked.first() is None:
        raise Refused("There is no such dataset (any more).", 404, "not_found")
    return row(pk)


def row(pk: int) -> Dataset:
    """The dataset, which is locked, with what its moves look at.

    Read after the lock is held: PostgreSQL, when it has to wait for the lock, joins the new row with the claim of
    before.
    """
    return Dataset.objects.select_related("project", "claim").get(pk=pk)


def end_claim(claim: Claim | None, reason: ClaimEnd, note: str = "") -> None:
    """Close the claim, unless it is closed already. The last lines go: the whole output is in the storage by then."""
    if claim is not None:
        open_one = Claim.objects.filter(pk=claim.pk, ended=None)
        if open_one.update(ended=timezone.now(), end_reason=reason, end_note=note[:1023]):
            LogTail.objects.filter(dataset=claim.dataset_id).delete()


def note_begun(claim: Claim) -> None:
    """The holder of the current claim is at work."""
    if not claim.begun:
        Claim.objects.filter(pk=claim.pk).update(begun=True)


def lease_is_live(dataset: Dataset, now: dt.datetime) -> bool:
    running = dataset.state == DatasetState.RUNNING.value
    return running and dataset.lease_expires is not None and dataset.lease_expires > now


def next_attempt(dataset: Dataset) -> int:
    """The leases lost so far once the dataset is taken anew: a lost one is charged, a decided run starts from none."""
    if dataset.state == DatasetState.RUNNING.value:
        return dataset.attempt + 1
    return dataset.attempt if dataset.state == DatasetState.UNPROCESSED.value else 0


def current_stage(dataset: Dataset) -> Stage:
    """The stage that the run with the dataset's fence has reached."""
    last = Status.objects.filter(dataset=dataset, fence=dataset.fence, effective=True).order_by("-id").first()
    return Stage(last.stage) if last else Stage.SETUP


def fail(dataset: Dataset, end: ClaimEnd, note: str) -> None:
    """The server's own Fail: of a run whose client is gone. The fence moves on, so that the client finds out."""
    stage = current_stage(dataset)
    claim = dataset.claim
    end_claim(claim, end, note)
    fence = dataset.fence + 1
    status = Status.objects.create(
        dataset=dataset, claim=claim, fence=fence, stage=stage, state=State.FAIL, note=note, effective=True
    )
    Dataset.objects.filter(pk=dataset.pk).update(fence=fence, **failed(dataset, status))


def failed(dataset: Dataset, status: Status) -> dict[str, Any]:
    """The columns of a dataset that failed by this status."""
    names = (dataset.slug, dataset.key, dataset.name)
    failure, _ = Failure.objects.get_or_create(
        project=dataset.project,
        stage=status.stage,
        signature=signatures.signature(status.note, names),
        defaults={"example": signatures.telling(status.note)},
    )
    webhooks.announce(dataset, WebhookEvent.FAILED, status)
    return {"state": DatasetState.FAILED.value, "failure": failure, **NO_LEASE, **said(status)}


def completed(dataset: Dataset, status: Status) -> dict[str, Any]:
    """The columns of a dataset that is completed by this status."""
    webhooks.announce(dataset, WebhookEvent.COMPLETED, status)
    # An old client's commit has no manifest: what lies in the storage is the result then.
    committed = {"manifest_sha256": status.manifest_sha256, "manifest_fence": dataset.fence}
    return {"state": DatasetState.COMPLETED.value, **committed, **NO_LEASE, **said(status)}


def give_up(dataset: Dataset) -> bool:
    """Fail a dataset that is about to be taken over, if that lost lease is one too many or a person cancelled its run.

    Whether it was failed.
    """
    if not dataset.lease_expired:
        return False
    if queue.cancelled(dataset) and dataset.claim is not None:
        fail(dataset, ClaimEnd.CANCELLED, cancel_note(dataset.claim))
        return True
    if queue.used_up(dataset):
        lost = dataset.attempt + 1
        Dataset.objects.filter(pk=dataset.pk).update(attempt=lost)
        fail(dataset, ClaimEnd.EXPIRED, f"The client was lost: {lost} of {lost} attempts ended without a word.")
        return True
    return False


def cancel_note(claim: Claim) -> str:
    return f"Cancelled by {name_of(claim.cancelled_by)}."


def name_of(user: User | None) -> str:
    return user.get_username() if user else "a user who was deleted"
