"""What is true of claims, leases, fences and statuses at every moment, and of every step from one moment to the next.

It is read from the database, whatever brought it about: one caller after the other, or many at once.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from itertools import pairwise

from crunch_tasks.contract import Stage, State
from server.models import Claim, Dataset, Status
from server.models.claims import ClaimEnd
from server.services import counts

UNPROCESSED, RUNNING, COMPLETED, FAILED = "unprocessed", "running", "completed", "failed"
COMMIT = (Stage.UPLOAD, State.SUCCESS)

DECISIONS = {"claim_named", "reset", "retry", "retry_failed", "reset_all"}
"""What a person does; nothing else makes a dataset that is completed or failed anything else."""

STEPS = {
    # (before, after): whether the fence may stay, and whether it may grow.
    (UNPROCESSED, UNPROCESSED): (True, True),
    (UNPROCESSED, RUNNING): (False, True),
    (RUNNING, UNPROCESSED): (True, True),
    (RUNNING, RUNNING): (True, True),
    (RUNNING, COMPLETED): (True, True),
    (RUNNING, FAILED): (True, True),
    (COMPLETED, COMPLETED): (True, False),
    (COMPLETED, UNPROCESSED): (False, True),
    (COMPLETED, RUNNING): (False, True),
    (FAILED, FAILED): (True, False),
    (FAILED, UNPROCESSED): (False, True),
    (FAILED, RUNNING): (False, True),
}


@dataclass(frozen=True)
class Picture:
    """All that the database holds of the datasets that matter, by number; statuses in the order they came."""

    datasets: dict[int, Dataset]
    claims: dict[int, Claim]
    statuses: dict[int, Status]
    counts: Counter[str]
    """The kept number of datasets in each state."""

    @classmethod
    def taken(cls, project: int) -> Picture:
        return cls(
            {
                row.pk: row
                for row in Dataset.objects.filter(project=project).select_related("claim", "project", "failure")
            },
            {row.pk: row for row in Claim.objects.filter(dataset__project=project)},
            {row.pk: row for row in Status.objects.filter(dataset__project=project).order_by("pk")},
            counts.by_state([project])[project],
        )

    def run(self, dataset: Dataset, fence: int) -> list[Status]:
        """The effective statuses of one fence."""
        rows = self.statuses.values()
        return [row for row in rows if row.dataset_id == dataset.pk and row.fence == fence and row.effective]

    def reached(self, dataset: Dataset) -> tuple[int, bool]:
        """How far the current run is; a stage's Success and Fail are equally far."""
        return max((place(row.stage, row.state) for row in self.run(dataset, dataset.fence)), default=(0, False))


def place(stage: int, state: int) -> tuple[int, bool]:
    return stage, state != State.START


def check_picture(picture: Picture) -> None:
    for dataset in picture.datasets.values():
        _check_lease(picture, dataset)
        for fence in {row.fence for row in picture.statuses.values()}:
            _check_run(picture.run(dataset, fence))
        _check_state(picture, dataset)
        _check_kept(picture, dataset)
    for row in picture.statuses.values():
        if row.effective and row.claim_id is not None:
            # The server's own Fail moves the fence on.
            assert row.fence == picture.claims[row.claim_id].fence + (row.site_user_id is None), row
    assert picture.counts == Counter(dataset.state for dataset in picture.datasets.values())
    events = [row.event_id for row in picture.statuses.values() if row.event_id]
    assert len(events) == len(set(events))


def _check_lease(picture: Picture, dataset: Dataset) -> None:
    own = [claim for claim in picture.claims.values() if claim.dataset_id == dataset.pk]
    current = [claim for claim in own if claim.ended is None]
    assert len({claim.fence for claim in own}) == len(own), "two claims have one fence"
    assert max((claim.fence for claim in own), default=0) <= dataset.fence
    assert dataset.attempt <= dataset.project.max_attempts
    if dataset.claim_id is None:
        assert not current, "a claim is current that the dataset does not know of"
        assert dataset.lease_owner_id is None
    else:
        assert [claim.pk for claim in current] == [dataset.claim_id]
        assert (current[0].fence, current[0].user_id) == (dataset.fence, dataset.lease_owner_id)
        assert dataset.state == RUNNING
    assert (dataset.state == RUNNING) == (dataset.lease_expires is not None)


def _check_run(run: list[Status]) -> None:
    """Within a fence a run only goes on, each stage ends once, and nothing comes after the end."""
    places = [place(row.stage, row.state) for row in run]
    assert all(one < other for one, other in pairwise(places)), run
    assert not [row for row in run[:-1] if row.state == State.FAIL], run
    assert sum((row.stage, row.state) == COMMIT for row in run) <= 1, run


def _check_state(picture: Picture, dataset: Dataset) -> None:
    run = picture.run(dataset, dataset.fence)
    last = (run[-1].stage, run[-1].state) if run else None
    kept = [claim for claim in picture.claims.values() if claim.dataset_id == dataset.pk and claim.was_completed]
    given_back = any(claim.fence == dataset.fence and claim.end_reason == ClaimEnd.RELEASED for claim in kept)
    assert (dataset.state == FAILED) == (last is not None and last[1] == State.FAIL), (dataset.state, last)
    assert (dataset.state == COMPLETED) == (last == COMMIT or given_back), (dataset.state, last)
    if dataset.state == COMPLETED:
        assert COMMIT in [(row.stage, row.state) for row in picture.run(dataset, dataset.manifest_fence)]
    assert dataset.manifest_fence <= dataset.fence


def _check_kept(picture: Picture, dataset: Dataset) -> None:
    """What is kept with a dataset for the lists of the pages is what the statuses say."""
    run = picture.run(dataset, dataset.fence)
    expected = (run[-1].stage, run[-1].state) if run and dataset.state != UNPROCESSED else (None, None)
    if dataset.state == COMPLETED:
        expected = COMMIT
    assert (dataset.stage, dataset.stage_state) == expected, dataset.state
    if dataset.state == RUNNING and run:
        assert dataset.updated == run[-1].created
    own = [row.created for row in picture.statuses.values() if row.dataset_id == dataset.pk and row.effective]
    assert dataset.updated >= max(own, default=dataset.updated)
    assert dataset.key == dataset.slug.split(":")[-1]
    assert (dataset.state == FAILED) == (dataset.failure is not None)
    if dataset.failure is not None:
        assert (dataset.failure.project_id, dataset.failure.stage) == (dataset.project_id, dataset.stage)


def check_step(before: Picture, after: Picture, act: str) -> None:
    """`act` is the name of what was done between the two."""
    for pk, was in before.datasets.items():
        now = after.datasets[pk]
        may_stay, may_grow = STEPS[was.state, now.state]
        # A run that is given up by being taken over fails first, which moves the fence too.
        assert now.fence - was.fence in (0, 1, 2)
        assert may_grow if now.fence > was.fence else may_stay, (act, was.state, now.state, was.fence, now.fence)
        if was.state in (COMPLETED, FAILED) and now.state != was.state:
            assert act in DECISIONS
        moved = (was.state, was.fence, was.stage, was.stage_state) != (now.state, now.fence, now.stage, now.stage_state)
        assert moved == (was.updated != now.updated), act
        if was.locked and now.fence > was.fence:
            assert now.state != RUNNING, "a held dataset was taken"
    for pk, row in after.statuses.items():
        if pk not in before.statuses:
            assert not row.effective or row.fence >= before.datasets[row.dataset_id].fence, "a stale fence wrote"
        else:
            assert row.effective == before.statuses[pk].effective
