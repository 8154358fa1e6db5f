"""The ground of the walk through the protocol: two datasets, how they are looked at, and what people do with them."""

from __future__ import annotations

from itertools import count

import pytest
from django.contrib.auth.models import User
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, rule

from crunch_tasks.contract import ClaimRequest
from crunch_tasks.errors import Refused
from server.models import Claim, Dataset
from server.services import bulk, catalogue, claims, datasets
from server.services.bulk import Operation
from server.services.selection import Selection
from tests.support.calls import expire
from tests.support.protocol import FAILED, RUNNING, UNPROCESSED, Picture, check_picture, check_step

MAX_ATTEMPTS = 2
WHICH = st.sampled_from([0, 1])

numbers = count()
"""For the names of what is made."""


def is_free(dataset: Dataset) -> bool:
    """Whether it waits, as any claim would have it, were it not held."""
    last_chance = dataset.attempt + 1 >= MAX_ATTEMPTS
    cancelled = dataset.claim is not None and dataset.claim.cancelled_at is not None
    return dataset.state == UNPROCESSED or (dataset.lease_expired and not last_chance and not cancelled)


class People(RuleBasedStateMachine):
    """They reset, retry and hold; and time passes. After each act all that must be true is looked at."""

    claims = Bundle("claims")

    @initialize(target=claims)
    def fill(self) -> Claim:
        # What earlier examples left is nothing to claim.
        Dataset.objects.update(locked=True)
        self.project = catalogue.create_project(name=f"Birds {next(numbers)}", max_attempts=MAX_ATTEMPTS)
        made = [catalogue.create_dataset(self.project, name=name, priority=n) for n, name in enumerate("ab")]
        self.datasets = [dataset.pk for dataset in made]
        self.users = {user.username: user for user in User.objects.all()}
        first = claims.claim(self.users["alice"], ClaimRequest(f"r{next(numbers)}"))
        assert first is not None
        self.before = Picture.taken(self.project.pk)
        return first[0]

    def look(self, act: str) -> None:
        """After each act: what must always be true."""
        after = Picture.taken(self.project.pk)
        check_picture(after)
        check_step(self.before, after, act)
        self.before = after

    def row(self, which: int) -> Dataset:
        return self.before.datasets[self.datasets[which]]

    def is_current(self, claim: Claim, fence: int) -> bool:
        now = self.before.claims[claim.pk]
        return now.ended is None and fence == self.before.datasets[claim.dataset_id].fence

    @rule(
        which=WHICH,
        decision=st.sampled_from(["reset", "retry", "retry_failed", "reset_all", "hold"]),
        flag=st.booleans(),
    )
    def person(self, which: int, decision: str, flag: bool) -> None:
        getattr(self, f"_{decision}")(self.row(which), flag)

    def _reset(self, was: Dataset, take_files: bool) -> None:
        now = datasets.reset(was.pk, take_files=take_files)
        self.look("reset")
        assert (now.state, now.fence, now.attempt) == (UNPROCESSED, was.fence + 1, 0)

    def _retry(self, was: Dataset, _: bool) -> None:
        running = was.state == RUNNING and was.claim_id is not None
        with pytest.raises(Refused) as refusal:
            datasets.retry(was.pk, fence=was.fence - 1)
        assert refusal.value.code == ("running" if running else "changed")
        self.look("retry")
        if running:
            return
        would = datasets.retry(was.pk, dry_run=True)
        self.look("dry run")
        assert self.before.datasets[was.pk].fence == was.fence
        assert datasets.retry(was.pk, fence=was.fence) == would
        assert would.count == (was.state != UNPROCESSED)
        self.look("retry")
        now = self.before.datasets[was.pk]
        assert now.fence == was.fence + would.count
        assert not would.count or (now.state, now.attempt) == (UNPROCESSED, 0)

    def _retry_failed(self, _: Dataset, __: bool) -> None:
        failed = {pk: row for pk, row in self.before.datasets.items() if row.state == FAILED}
        would = datasets.retry_failed(self.project, dry_run=True)
        self.look("dry run")
        assert (would.count, would.slugs) == (len(failed), [row.slug for _, row in sorted(failed.items())])
        assert datasets.retry_failed(self.project) == would
        self.look("retry_failed")
        for pk, was in failed.items():
            now = self.before.datasets[pk]
            assert (now.state, now.fence, now.attempt) == (UNPROCESSED, was.fence + 1, 0)

    def _reset_all(self, _: Dataset, __: bool) -> None:
        processed = {pk: row for pk, row in self.before.datasets.items() if row.state != UNPROCESSED}
        would = bulk.perform(Selection(self.project), Operation.RESET, dry_run=True)
        self.look("dry run")
        assert would.count == len(processed)
        assert bulk.perform(Selection(self.project), Operation.RESET) == would
        self.look("reset_all")
        for pk, was in processed.items():
            now = self.before.datasets[pk]
            assert (now.state, now.fence, now.attempt) == (UNPROCESSED, was.fence + 1, 0)

    def _hold(self, was: Dataset, locked: bool) -> None:
        datasets.set_hold(was.pk, locked)
        self.look("hold")

    @rule(which=WHICH)
    def lease_expires(self, which: int) -> None:
        expire(self.row(which).pk)
        self.look("lease_expires")
