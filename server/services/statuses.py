"""Statuses: every one is kept; those that move a run forward change the dataset's life in the same transaction."""

from __future__ import annotations

import datetime as dt
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from django.contrib.auth.models import User
from django.db import IntegrityError, transaction
from django.utils import timezone

from crunch_tasks.contract import DatasetState, Stage, State
from crunch_tasks.crash import Point, reached
from crunch_tasks.errors import Refused
from server.models import Claim, Dataset, Installation, Status
from server.models.claims import ClaimEnd
from server.models.statuses import Refusal
from server.services import forecast, life

IDLE_SECONDS = 24 * 3600
"""A run without a claim (an old client's, which has no heartbeat) that is silent for so long may be taken over."""

LOST = (Refusal.FENCE, Refusal.CLAIM_ENDED)
"""Refusals that tell a client that the dataset is not its own any more (409)."""


@dataclass(frozen=True)
class Event:
    """What a client reports: one stage reached one state. Without a claim it comes from an old client."""

    dataset: int
    stage: Stage
    state: State
    note: str = ""
    site: str = ""
    claim: int | None = None
    fence: int | None = None
    event_id: str | None = None
    flow_run_id: str = ""
    flow_run_url: str = ""
    manifest_sha256: str = ""
    diagnostics: Mapping[str, Any] = field(default_factory=dict)

    @property
    def sha256(self) -> str:
        """Of all that the client said, to tell a repeated event from another one under the same event_id."""
        said = {**vars(self), "diagnostics": dict(self.diagnostics)}
        return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()

    @property
    def commits(self) -> bool:
        """Whether it is the run's last word, Upload Success."""
        return (self.stage, self.state) == (Stage.UPLOAD, State.SUCCESS)


def record(user: User, event: Event) -> tuple[Status, bool]:
    """Keep the event: its status, and whether it is new. `status.effective` tells whether it changed anything.

    The event_id is looked at first (seen: the first outcome again), then the owner, then the fence. A status for a
    lost lease is kept as history too; its `refusal` is one of LOST. Raises Refused: 404, 403, and 422 for an event of
    another site's claim, an event_id that came with another payload, a claim on another dataset, or a commit without
    its manifest.
    """
    if event.site and event.site != Installation.site_id():
        raise Refused("The status belongs to a claim of another Crunch server.", 422, "other_site")
    try:
        with transaction.atomic():
            # Locked first: of two deliveries of one event at once, the second sees the first's row.
            dataset = life.locked_row(event.dataset)
            if (earlier := _repeat(event)) is not None:
                return earlier, False
            told = _without_claim if event.claim is None else _of_claim
            kept = told(user, dataset, event)
            reached(Point.STATUS_KEPT)
    except IntegrityError:
        # The same event_id came for two datasets at once.
        if (earlier := _repeat(event)) is not None:
            return earlier, False
        raise
    reached(Point.STATUS_TAKEN)
    return kept, True


def _repeat(event: Event) -> Status | None:
    if not event.event_id:
        return None
    earlier = Status.objects.filter(event_id=event.event_id).first()
    if earlier is not None and earlier.payload_sha256 != event.sha256:
        raise Refused("This event_id came before, with other content.", 422, "event_differs")
    return earlier


def _of_claim(user: User, dataset: Dataset, event: Event) -> Status:
    claim = None if event.claim is None else Claim.objects.filter(pk=event.claim).first()
    if claim is None:
        raise Refused("There is no such claim (any more).", 404, "not_found")
    if claim.user_id != user.pk:
        raise Refused("The claim is another user's.", 403, "not_yours")
    if claim.dataset_id != dataset.pk:
        raise Refused("The claim is on another dataset.", 422, "other_dataset")
    if event.commits and not event.manifest_sha256:
        raise Refused("Upload Success needs manifest_sha256, the sum of the published manifest.", 422, "no_manifest")
    _note_flow_run(claim, event)
    if event.fence != dataset.fence or claim.fence != dataset.fence:
        return _keep(user, dataset, event, claim, Refusal.FENCE)
    if claim.ended is not None:
        decided = claim.end_reason in (ClaimEnd.COMPLETED, ClaimEnd.FAILED)
        return _keep(user, dataset, event, claim, Refusal.FINAL if decided else Refusal.CLAIM_ENDED)
    life.note_begun(claim)
    return _advance(user, dataset, event, claim)


def _without_claim(user: User, dataset: Dataset, event: Event) -> Status:
    running = dataset.state == DatasetState.RUNNING.value
    if event.state == State.START and not dataset.locked:
        free = dataset.state == DatasetState.UNPROCESSED.value
        # A later stage's Start of a run without a claim is that run going on after a long silence.
        lost = dataset.lease_expired and (dataset.claim is not None or event.stage == Stage.SETUP)
        if free or lost:
            life.give_up(dataset)
            _start_without_claim(life.locked_row(dataset.pk))
            return _advance(user, life.locked_row(dataset.pk), event, None)
    if not running or dataset.claim is not None:
        return _keep(user, dataset, event, None, Refusal.NO_RUN)
    return _advance(user, dataset, event, None)


def _start_without_claim(dataset: Dataset) -> None:
    life.end_claim(dataset.claim, ClaimEnd.EXPIRED)
    Dataset.objects.filter(pk=dataset.pk).update(
        **{**life.NO_LEASE, **life.unsaid(), "lease_expires": _idle_limit()},
        state=DatasetState.RUNNING.value,
        fence=dataset.fence + 1,
        attempt=life.next_attempt(dataset),
    )


def _idle_limit() -> dt.datetime:
    return timezone.now() + dt.timedelta(seconds=IDLE_SECONDS)


def _advance(user: User, dataset: Dataset, event: Event, claim: Claim | None) -> Status:
    """A status of the run that is going on: it counts if the run was not that far yet."""
    if _place(event.stage, event.state) <= _reached(dataset):
        return _keep(user, dataset, event, claim, Refusal.BACKWARDS)
    kept = _keep(user, dataset, event, claim)
    if event.state == State.FAIL:
        life.end_claim(claim, ClaimEnd.FAILED)
        changes = life.failed(dataset, kept)
    elif event.commits:
        life.end_claim(claim, ClaimEnd.COMPLETED)
        if claim is not None:
            forecast.note(dataset.project_id, claim)
        changes = life.completed(dataset, kept)
    else:
        silence = {"lease_expires": _idle_limit()} if claim is None else {}
        changes = {**silence, **life.said(kept)}
    Dataset.objects.filter(pk=dataset.pk).update(**changes)
    return kept


def _place(stage: int, state: int) -> tuple[int, bool]:
    """How far a run is: Success and Fail of a stage are equally far, so that the first of them wins."""
    return (stage, state != State.START)


def _reached(dataset: Dataset) -> tuple[int, bool]:
    rows = Status.objects.filter(dataset=dataset, fence=dataset.fence, effective=True)
    return max((_place(stage, state) for stage, state in rows.values_list("stage", "state")), default=(0, False))


def _keep(user: User, dataset: Dataset, event: Event, claim: Claim | None, refusal: str = "") -> Status:
    return Status.objects.create(
        dataset=dataset,
        site_user=user,
        claim=claim,
        fence=dataset.fence if event.fence is None else event.fence,
        event_id=event.event_id or None,
        stage=event.stage,
        state=event.state,
        note=event.note,
        flow_run_id=event.flow_run_id,
        manifest_sha256=event.manifest_sha256,
        effective=not refusal,
        refusal=refusal,
        payload_sha256=event.sha256,
        **event.diagnostics,
    )


def _note_flow_run(claim: Claim, event: Event) -> None:
    """The latest flow run of the claim, so that the dataset's page can link to it."""
    if event.flow_run_id and (event.flow_run_id, event.flow_run_url) != (claim.flow_run_id, claim.flow_run_url):
        claim.flow_run_id = event.flow_run_id
        claim.flow_run_url = event.flow_run_url or claim.flow_run_url
        claim.save(update_fields=["flow_run_id", "flow_run_url"])
