"""Everything that may happen to a few datasets, at random: for many processes at once, on one database."""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

from django.contrib.auth.models import User

from crunch_tasks.contract import ClaimRequest, Stage, State
from crunch_tasks.errors import Refused
from server.models import Claim, Dataset, Project
from server.services import claims, counts, datasets, statuses
from server.triggers import GRANTED
from tests.support.calls import MANIFEST, expire
from tests.support.protocol import Picture, check_picture

ACTS = 60


class Client:
    """One process's acts; `effective` counts its statuses that changed something."""

    def __init__(self, process: int) -> None:
        self.process = process
        self.chance = random.Random(process)
        self.user = list(User.objects.order_by("pk"))[process % 2]
        self.taken: list[Claim] = []
        self.effective = 0
        self.number = 0

    def act(self, dataset: Dataset) -> None:
        self.number += 1
        acts = [self.claim, self.run, self.old_client, self.person, *[self.of_claim] * 5]
        self.chance.choice(acts)(dataset)

    def claim(self, _: Dataset) -> None:
        self._keep(claims.claim(self.user, ClaimRequest(f"{self.process}-{self.number}")))

    def run(self, dataset: Dataset) -> None:
        self._keep(claims.claim(self.user, ClaimRequest(f"{self.process}-{self.number}", dataset=dataset.slug)))

    def old_client(self, dataset: Dataset) -> None:
        event = statuses.Event(dataset.pk, self.chance.choice(list(Stage)), self.chance.choice(list(State)))
        statuses.record(self.user, event)

    def person(self, dataset: Dataset) -> None:
        self.chance.choice(
            [
                lambda: datasets.reset(dataset.pk),
                lambda: datasets.retry(dataset.pk),
                lambda: datasets.retry_failed(dataset.project),
                lambda: expire(dataset.pk),
                lambda: counts.fold(dataset.project_id),
            ]
        )()

    def of_claim(self, _: Dataset) -> None:
        """What a client does with a claim that it may have lost long ago."""
        if not self.taken:
            return
        claim = self.chance.choice(self.taken[-2:])
        self.chance.choice(
            [
                lambda: self._report(claim, self.chance.choice(list(Stage)), State.START),
                lambda: self._report(claim, self.chance.choice(list(Stage)), State.SUCCESS),
                lambda: self._report(claim, Stage.UPLOAD, self.chance.choice([State.SUCCESS, State.FAIL])),
                lambda: claims.heartbeat(self.user, claims.find(claim.pk), claim.fence),
                lambda: claims.release(self.user, claim.pk, claim.fence),
                lambda: claims.cancel(self.user, claim.pk),
                lambda: claims.claim(self.user, ClaimRequest(claim.request_id)),
            ]
        )()

    def _keep(self, found: tuple[Claim, bool] | None) -> None:
        if found is not None:
            self.taken.append(found[0])

    def _report(self, claim: Claim, stage: Stage, state: State) -> None:
        event = statuses.Event(claim.dataset_id, stage, state, claim=claim.pk, fence=claim.fence)
        told: dict[str, Any] = {**vars(event), "event_id": f"{self.process}-{self.number}", "manifest_sha256": MANIFEST}
        for _ in range(2):
            kept, new = statuses.record(self.user, statuses.Event(**told))
            self.effective += kept.effective and new


def storm(process: int) -> int:
    """How many statuses of this process changed something. Only refusals may be raised on the way."""
    client = Client(process)
    rows = list(Dataset.objects.select_related("project"))
    for _ in range(ACTS):
        try:
            client.act(client.chance.choice(rows))
        except Refused:
            continue
    return client.effective


def check(_: int) -> tuple[int, int]:
    """How many claims and statuses there are, all of them as they must be, and counted."""
    picture = Picture.taken(Project.objects.get(slug="birds").pk)
    check_picture(picture)
    ends = Counter(claim.end_reason for claim in picture.claims.values() if claim.ended)
    assert counts.of_claims() == ends + Counter({GRANTED: len(picture.claims)})
    return len(picture.claims), len(picture.statuses)
