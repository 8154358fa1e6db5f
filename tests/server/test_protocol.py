"""The protocol of claims, leases, fences and statuses, explored: the real services in any order, on both databases."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from django.contrib.auth.models import User
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, multiple, rule, run_state_machine_as_test

from crunch_tasks.contract import ClaimRequest, Stage, State
from crunch_tasks.errors import Refused
from server.models import Claim, Status
from server.services import claims, statuses
from server.services.statuses import Event
from tests.support.calls import MANIFEST
from tests.support.depth import whole
from tests.support.people import MAX_ATTEMPTS, WHICH, People, is_free, numbers
from tests.support.protocol import FAILED, RUNNING, UNPROCESSED, place

PEOPLE = st.sampled_from(["alice", "bob"])
STAGES = st.sampled_from(list(Stage))
STATES = st.sampled_from(list(State))

ALL = list(HealthCheck)


class Protocol(People):
    """Two people's clients, and those people. Each rule knows from the picture before it what must come of it."""

    claims = People.claims
    events = Bundle("events")

    # --- claims ---

    @rule(target=claims, who=PEOPLE, named_project=st.booleans())
    def claim_any(self, who: str, named_project: bool) -> Any:
        found = [row for row in self.before.datasets.values() if is_free(row) and not row.locked]
        best = min(found, key=lambda row: (-row.priority, row.pk), default=None)
        request = ClaimRequest(f"r{next(numbers)}", project=self.project.slug if named_project else "")
        made = claims.claim(self.users[who], request)
        self.look("claim_any")
        if made is None:
            assert best is None, "nothing was given, though a dataset was free"
            return multiple()
        claim, new = made
        assert new
        assert best is not None, "a dataset was given that was not free"
        assert claim.dataset_id == best.pk
        return claim

    @rule(target=claims, who=PEOPLE, which=WHICH, only_waiting=st.booleans())
    def claim_named(self, who: str, which: int, only_waiting: bool) -> Any:
        was = self.row(which)
        live = was.state == RUNNING and not was.lease_expired
        decided = only_waiting and not live and not is_free(was)
        # A person takes it whatever it is; who wants it only while it waits does not change what is decided.
        act = "claim_waiting" if only_waiting else "claim_named"
        request = ClaimRequest(f"r{next(numbers)}", dataset=was.slug, only_waiting=only_waiting)
        try:
            made = claims.claim(self.users[who], request)
        except Refused as refusal:
            self.look(act)
            assert refusal.code == ("locked" if was.locked else "leased" if live else "decided")
            assert was.locked or live or decided
            return multiple()
        self.look(act)
        assert made is not None
        assert not was.locked
        assert not live
        assert not decided
        return made[0]

    @rule(claim=claims)
    def claim_again(self, claim: Claim) -> None:
        was = self.before.claims[claim.pk]
        died_too_often = was.begun and was.resumed + 1 >= MAX_ATTEMPTS
        try:
            again = claims.claim(self.users[claim.user.username], ClaimRequest(claim.request_id))
        except Refused as refusal:
            assert refusal.code == "claim_ended"
            assert was.ended is not None or died_too_often
            self.look("claim_again")
            assert was.ended is not None or self.before.datasets[claim.dataset_id].state == FAILED
            return
        self.look("claim_again")
        assert again is not None
        assert (again[0].pk, again[1]) == (claim.pk, False)
        assert not self.before.claims[claim.pk].begun, "an answer that is lost would be counted as a death"
        assert was.ended is None
        assert not died_too_often

    @rule(claim=claims, ahead=st.sampled_from([0, 0, 0, 1]))
    def heartbeat(self, claim: Claim, ahead: int) -> None:
        fence = claim.fence + ahead
        current = self.is_current(claim, fence)
        try:
            told = claims.heartbeat(claim.user, claims.find(claim.pk), fence)
        except Refused as refusal:
            assert (refusal.code, current) == ("lost", False)
        else:
            assert current
            assert told.cancel == (self.before.claims[claim.pk].cancelled_at is not None)
        self.look("heartbeat")
        assert self.before.claims[claim.pk].begun or not current

    @rule(claim=claims)
    def release(self, claim: Claim) -> None:
        current = self.is_current(claim, claim.fence)
        released_before = self.before.claims[claim.pk].end_reason == "released"
        try:
            claims.release(claim.user, claim.pk, claim.fence)
        except Refused as refusal:
            assert (refusal.code, current, released_before) == ("lost", False, False)
        else:
            assert current or released_before
        attempt = self.before.datasets[claim.dataset_id].attempt
        self.look("release")
        assert self.before.datasets[claim.dataset_id].attempt == attempt

    @rule(claim=claims, who=PEOPLE)
    def cancel(self, claim: Claim, who: str) -> None:
        was, dataset = self.before.claims[claim.pk], self.before.datasets[claim.dataset_id]
        try:
            claims.cancel(self.users[who], claim.pk)
        except Refused as refusal:
            assert refusal.code == "claim_ended"
            assert was.ended is not None
        else:
            assert was.ended is None
        self.look("cancel")
        if was.ended is None and dataset.lease_expired:
            assert self.before.datasets[dataset.pk].state == FAILED

    @rule(claim=claims)
    def somebody_elses(self, claim: Claim) -> None:
        other = self.users["bob" if claim.user.username == "alice" else "alice"]
        event = self.event(claim, Stage.UPLOAD, State.SUCCESS)
        for act in (
            lambda: claims.heartbeat(other, claim, claim.fence),
            lambda: claims.release(other, claim.pk, claim.fence),
            lambda: statuses.record(other, event),
        ):
            with pytest.raises(Refused) as refusal:
                act()
            assert refusal.value.status == 403
        rows = self.before.statuses
        self.look("somebody_elses")
        assert self.before.statuses == rows

    # --- statuses ---

    def event(self, claim: Claim, stage: Stage, state: State, **values: Any) -> Event:
        event = Event(claim.dataset_id, stage, state, claim=claim.pk, fence=claim.fence, manifest_sha256=MANIFEST)
        return replace(event, event_id=f"e{next(numbers)}", **values)

    @rule(target=events, claim=claims, stage=STAGES, state=STATES, ahead=st.sampled_from([0, 0, 0, 1]))
    def status(self, claim: Claim, stage: Stage, state: State, ahead: int) -> Any:
        """Also late, stale, backwards and with the fence of somebody else's claim."""
        fence = claim.fence + ahead
        dataset = self.before.datasets[claim.dataset_id]
        further = place(stage, state) > self.before.reached(dataset)
        counts = self.is_current(claim, fence) and claim.fence == fence and further
        event = self.event(claim, stage, state, fence=fence)
        kept, new = statuses.record(claim.user, event)
        assert (kept.effective, new) == (counts, True), kept.refusal
        self.look("status")
        return claim.user, event, kept

    @rule(target=events, claim=claims)
    def next_status(self, claim: Claim) -> Any:
        """As a good run goes on."""
        stage, ended = self.before.reached(self.before.datasets[claim.dataset_id])
        started = bool(stage) and not ended
        return self.status(
            claim, Stage(min(stage + (not started), 3)), State.SUCCESS if started else State.START, ahead=0
        )

    @rule(sent=events, other=st.booleans())
    def status_again(self, sent: tuple[User, Event, Status], other: bool) -> None:
        user, event, kept = sent
        rows = self.before.statuses
        if other:
            with pytest.raises(Refused) as refusal:
                statuses.record(user, replace(event, note="another"))
            assert refusal.value.code == "event_differs"
        else:
            again, new = statuses.record(user, event)
            assert (again, again.effective, new) == (kept, kept.effective, False)
        self.look("status_again")
        assert self.before.statuses == rows

    @rule(who=PEOPLE, which=WHICH, stage=STAGES, state=STATES)
    def status_without_claim(self, who: str, which: int, stage: Stage, state: State) -> None:
        was = self.row(which)
        going_on = was.state == RUNNING and was.claim_id is None
        takes_over = was.lease_expired and (was.claim_id is not None or stage == Stage.SETUP)
        starts = state == State.START and not was.locked and (was.state == UNPROCESSED or takes_over)
        further = place(stage, state) > self.before.reached(was)
        kept, _ = statuses.record(self.users[who], Event(was.pk, stage, state))
        assert kept.effective == (starts or (going_on and further)), kept.refusal
        self.look("status_without_claim")
        assert self.row(which).claim_id is None or not kept.effective

    # --- what takes several events, and would come together too seldom by chance ---

    @rule(target=claims, which=WHICH, who=PEOPLE, how=st.sampled_from(["claim_any", "claim_named", "old client"]))
    def taken_over(self, which: int, who: str, how: str) -> Any:
        self.lease_expires(which)
        if how == "claim_any":
            return self.claim_any(who, named_project=True)
        if how == "claim_named":
            return self.claim_named(who, which, only_waiting=False)
        self.status_without_claim(who, which, Stage.SETUP, State.START)
        return multiple()

    @rule(claim=claims, times=st.integers(1, MAX_ATTEMPTS))
    def dies_at_work(self, claim: Claim, times: int) -> None:
        for _ in range(times):
            self.heartbeat(claim, ahead=0)
            self.claim_again(claim)


# Shrinking takes minutes, and an order of thirty events can be read as it is.
SHORT = settings(
    max_examples=30, stateful_step_count=30, derandomize=True, phases=[Phase.generate], suppress_health_check=ALL
)
WHOLE = settings(max_examples=500, stateful_step_count=50, print_blob=True, suppress_health_check=ALL)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_no_order_of_events_breaks_the_protocol(database: None) -> None:
    """The short form is the same at each run; a failure of either prints the order of events."""
    run_state_machine_as_test(Protocol, settings=settings(WHOLE if whole() else SHORT, deadline=None, database=None))
