"""Claims: the time-limited, exclusive right to process a dataset. Claim, heartbeat, release, cancel.

A claim picks a dataset and takes it by compare-and-swap, in one short transaction.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import Any

from django.contrib.auth.models import User
from django.db import IntegrityError, transaction
from django.db.models import QuerySet
from django.utils import timezone

from crunch_tasks.contract import ClaimRequest, DatasetState, Stage, State
from crunch_tasks.crash import Point, reached
from crunch_tasks.errors import Refused
from crunch_tasks.needs import Resources
from server.models import Claim, Dataset, LogTail, Project
from server.models.claims import ClaimEnd
from server.permissions import Act, Actor
from server.services import counts, life, queue

NOT_YOURS = "The claim is another user's."


class _TakenMeanwhile(Exception):
    """Another claim took the picked dataset."""


def claim(user: User, request: ClaimRequest, among: QuerySet[Project] | None = None) -> tuple[Claim, bool] | None:
    """The claim and whether it is new; None when nothing can be claimed, of `among` or of all that the user may run.

    The same user's same request_id gets the same claim while it is current, but not for ever: a client that died at
    work as often as the project has attempts fails the dataset. Raises Refused: 404 for an unknown project or dataset,
    409 `claim_ended`, `decided`, `leased`, `locked`, `paused`, `unfit`.
    """
    projects = Actor(user).projects(Act.RUN) if among is None else among
    if request.project:
        projects = projects.filter(slug=request.project)
    offer = queue.Offer(Resources.from_wire(request.capabilities or {}), request.seconds)
    # That a request came before is seen when its claim is written down: only then, or when there is none, is it looked
    # for. What is named would look taken.
    may_be_repeat = bool(request.dataset)
    while True:
        try:
            with transaction.atomic():
                if (earlier := _repeat(user, request.request_id) if may_be_repeat else None) is None:
                    dataset = _wanted(request, projects, offer)
                    if dataset is None and not may_be_repeat:
                        may_be_repeat = True
                        continue
                    if dataset is None:
                        _check_project(request.project, projects)
                        _check_fit(request, projects, offer)
                        return None
                    # One that is given up has failed now. A wish for any looks further; a named one is taken anew, or
                    # refused if it had to wait.
                    if life.give_up(dataset):
                        continue
                    made = _take(dataset, user, request)
                    reached(Point.CLAIM_TAKEN)
            # Refused after the transaction, which may have failed the dataset.
            if earlier is not None:
                return _unended(earlier), False
            reached(Point.CLAIM_GRANTED)
            counts.fold_in_turn(made.dataset.project_id, made.pk)
            return made, True
        except _TakenMeanwhile:
            continue
        except IntegrityError:
            # The same request came before, or twice at once and the other was faster: that claim is the answer to both.
            if may_be_repeat and not Claim.objects.filter(user=user, request_id=request.request_id).exists():
                raise
            may_be_repeat = True


@dataclass(frozen=True)
class Renewal:
    """What a heartbeat is answered: the seconds that the lease lasts, and who cancelled the run, if anybody did."""

    ttl_s: float
    cancel: bool
    cancelled_by: str


def heartbeat(
    user: User, held: Claim, fence: int, progress: dict[str, Any] | None = None, log_tail: str | None = None
) -> Renewal:
    """Renew the lease, also an expired one that nobody took. `log_tail` is the end of the workflow's output, if news.

    `held` is as `find` has just given it. Raises Refused: 403 for another user's claim, 409 `lost`.
    """
    _check_owner(held, user)
    lease = held.dataset.project.lease_seconds
    changes = {"lease_expires": _lease_end(lease)} | ({} if progress is None else {"progress": progress})
    with transaction.atomic():
        # No look at a locked row before: of all calls this is the most frequent.
        if not Dataset.objects.filter(claim=held, fence=fence).update(**changes):
            raise _lost(user, held.pk, fence)
        life.note_begun(held)
        if log_tail is not None:
            LogTail.keep(held.dataset, log_tail)
    cancelled = held.cancelled_at is not None
    return Renewal(float(lease), cancelled, life.name_of(held.cancelled_by) if cancelled else "")


def release(user: User, claim_id: int, fence: int, reason: str = "") -> None:
    """Give the dataset back unprocessed, no attempt charged; a cancelled one becomes failed instead.

    One that was completed when a person named it is completed again: its published results stand, and a loop must
    not process it anew because somebody stopped looking at it.
    A second release of the same claim does nothing. Raises Refused: 404, 403 for another user's claim, 409 `lost`.
    """
    with transaction.atomic():
        own = _own(user, claim_id)
        if own.end_reason == ClaimEnd.RELEASED and own.fence == fence:
            return
        held, dataset = _current(user, claim_id, fence)
        if held.cancelled_at is not None:
            life.fail(dataset, ClaimEnd.CANCELLED, life.cancel_note(held))
            return
        life.end_claim(held, ClaimEnd.RELEASED, reason)
        state = DatasetState.COMPLETED if held.was_completed else DatasetState.UNPROCESSED
        done = {"stage": Stage.UPLOAD, "stage_state": State.SUCCESS} if held.was_completed else {}
        changes = {"state": state.value, **life.NO_LEASE, **life.unsaid(), **done}
        Dataset.objects.filter(pk=dataset.pk).update(**changes)


def cancel(user: User, claim_id: int) -> Claim:
    """A person's wish that the run ends: its client is told with the next heartbeat; a lost client's run fails now.

    Raises Refused: 404, 409 `claim_ended`.
    """
    with transaction.atomic():
        found = find(claim_id)
        dataset = life.locked_row(found.dataset_id)
        found.refresh_from_db()
        if found.ended is not None:
            raise Refused(f"The run has ended already: {found.get_end_reason_display()}.", 409, "claim_ended")
        if found.cancelled_at is None:
            found.cancelled_by, found.cancelled_at = user, timezone.now()
            found.save(update_fields=["cancelled_by", "cancelled_at"])
        if dataset.lease_expired:
            life.fail(dataset, ClaimEnd.CANCELLED, life.cancel_note(found))
            found.refresh_from_db()
    return found


def _repeat(user: User, request_id: str) -> Claim | None:
    """The claim of an earlier request with this id, if any: renewed, or ended.

    Its holder had begun to work: then this is another process, which takes up what the first one left when it died.
    Else it may be the same process, which asks again because the answer was lost on the way.
    """
    earlier = Claim.objects.filter(user=user, request_id=request_id).first()
    if earlier is None:
        return None
    dataset = life.locked_row(earlier.dataset_id)
    earlier.refresh_from_db()
    if earlier.ended is not None:
        return earlier
    if earlier.begun:
        earlier.begun, earlier.resumed = False, earlier.resumed + 1
        earlier.save(update_fields=["begun", "resumed"])
        if earlier.resumed >= dataset.project.max_attempts:
            times = f"{earlier.resumed} time{'s' if earlier.resumed != 1 else ''}"
            life.fail(dataset, ClaimEnd.FAILED, f"The client died {times} while processing this dataset.")
            earlier.refresh_from_db()
            return earlier
    Dataset.objects.filter(pk=dataset.pk).update(lease_expires=_lease_end(dataset.project.lease_seconds))
    return earlier


def _unended(claim: Claim) -> Claim:
    if claim.ended is None:
        return claim
    note = f" ({claim.end_note.rstrip('.')})" if claim.end_note else ""
    ending = f"{claim.get_end_reason_display()}{note}"
    raise Refused(f"The claim of this request_id has ended: {ending}. Use a new one.", 409, "claim_ended")


def _wanted(request: ClaimRequest, projects: QuerySet[Project], offer: queue.Offer) -> Dataset | None:
    if request.dataset:
        named = _named(request, projects)
        if _tells_what_fits(request) and (sentence := queue.misfit(named, offer)):
            raise Refused(sentence, 409, "unfit")
        return named
    if request.ahead and not counts.enough_waits(projects):
        return None
    return queue.pick(projects, offer)


def _check_project(slug: str, found: QuerySet[Project]) -> None:
    """Raises Refused (404) when a project was asked for and there is none."""
    if slug and not found.exists():
        raise Refused(f"There is no project {slug!r}.", 404, "not_found")


def _check_fit(request: ClaimRequest, projects: QuerySet[Project], offer: queue.Offer) -> None:
    """Raises Refused (409 `unfit`) when a client that told its machine or its time gets nothing and datasets wait."""
    if _tells_what_fits(request) and (sentence := queue.unfit(projects, offer)):
        raise Refused(sentence, 409, "unfit")


def _tells_what_fits(request: ClaimRequest) -> bool:
    return (request.capabilities, request.seconds) != (None, None)


def _named(request: ClaimRequest, projects: QuerySet[Project]) -> Dataset:
    """The dataset with this slug, if a person's act may take it: in any state but a live lease or a hold."""
    rows = Dataset.objects.filter(slug=request.dataset, project__in=projects.values("pk"))
    pk = rows.values_list("pk", flat=True).first()
    if pk is None:
        _check_project(request.project, projects)
        where = f" in project {request.project!r}" if request.project else ""
        raise Refused(f"There is no dataset {request.dataset!r}{where}.", 404, "not_found")
    dataset = life.locked_row(pk)
    if dataset.project.paused:
        raise Refused(f"{dataset.project.slug} is paused. Resume it on its page first.", 409, "paused")
    if dataset.locked:
        raise Refused(f"{request.dataset} is held. Let it go on its page first.", 409, "locked")
    if life.lease_is_live(dataset, timezone.now()):
        client = dataset.claim.client if dataset.claim else "a client without a claim"
        holder = f"{life.name_of(dataset.lease_owner)} ({client})" if dataset.lease_owner else client
        raise Refused(f"{request.dataset} is being processed by {holder}.", 409, "leased")
    if request.only_waiting and dataset.state in (DatasetState.COMPLETED, DatasetState.FAILED):
        raise Refused(f"{request.dataset} is {dataset.state} already.", 409, "decided")
    return dataset


def _take(dataset: Dataset, user: User, request: ClaimRequest) -> Claim:
    """Compare and swap: the dataset becomes running with the next fence, if nobody changed it since it was read."""
    life.end_claim(dataset.claim, ClaimEnd.EXPIRED)
    made = Claim.objects.create(
        dataset=dataset,
        user=user,
        fence=dataset.fence + 1,
        request_id=request.request_id,
        client=request.client,
        was_completed=dataset.state == DatasetState.COMPLETED.value,
        flow_run_id=request.flow_run_id,
        flow_run_url=request.flow_run_url,
    )
    changes = {
        "state": DatasetState.RUNNING.value,
        "fence": dataset.fence + 1,
        "attempt": life.next_attempt(dataset),
        "lease_owner": user,
        "lease_expires": _lease_end(dataset.project.lease_seconds),
        "claim": made,
        "progress": None,
        **life.unsaid(),
    }
    same = Dataset.objects.filter(pk=dataset.pk, fence=dataset.fence, state=dataset.state, locked=False)
    if same.update(**changes) != 1:
        raise _TakenMeanwhile
    for name, value in changes.items():
        setattr(dataset, name, value)
    return made


def find(claim_id: int) -> Claim:
    """The claim. Raises Refused (404) when there is none."""
    found = Claim.objects.select_related("dataset__project").filter(pk=claim_id).first()
    if found is None:
        raise Refused("There is no such claim (any more).", 404, "not_found")
    return found


def _own(user: User, claim_id: int) -> Claim:
    found = find(claim_id)
    _check_owner(found, user)
    return found


def _check_owner(claim: Claim, user: User) -> None:
    if claim.user_id != user.pk:
        raise Refused(NOT_YOURS, 403, "not_yours")


def _current(user: User, claim_id: int, fence: int) -> tuple[Claim, Dataset]:
    """The claim and the dataset that it holds, whose row stays locked. Raises Refused as `release` does."""
    held_by = Dataset.objects.select_for_update().filter(claim=claim_id, fence=fence)
    pk = held_by.values_list("pk", flat=True).first()
    dataset = None if pk is None else life.row(pk)
    held = None if dataset is None else dataset.claim
    if dataset is None or held is None:
        raise _lost(user, claim_id, fence)
    _check_owner(held, user)
    return held, dataset


def _lost(user: User, claim_id: int, fence: int) -> Refused:
    """Why the claim holds no dataset with this fence. Raises Refused: 404, 403."""
    own = _own(user, claim_id)
    if own.ended is None and own.dataset.claim_id == own.pk:
        return Refused(f"The lease is lost: the fence is {own.dataset.fence}, not {fence}.", 409, "lost")
    ending = f": {own.get_end_reason_display()}" if own.ended else ""
    return Refused(f"The lease is lost, the claim has ended{ending}.", 409, "lost")


def _lease_end(seconds: int) -> dt.datetime:
    return timezone.now() + dt.timedelta(seconds=seconds)
