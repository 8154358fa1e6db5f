"""`crunch dispatch`: unprocessed datasets become flow runs of crunch/run on a work pool, so many at once.

What is scheduled is a wish: the claim decides. A run whose dataset somebody else has or has processed ends at once, as
Completed. So several dispatches, clients and schedules may be at work on one project.

A dataset is scheduled once, however many dispatch it: its flow run has an idempotency key that all of them make alike,
the slug and how many such runs it had before. One that another work pool was given is not this dispatch's.
"""

from __future__ import annotations

import datetime as dt
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from itertools import count
from typing import Any
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterDeploymentId,
    FlowRunFilterState,
    FlowRunFilterStateType,
    WorkerFilter,
    WorkerFilterStatus,
)
from prefect.client.schemas.objects import TERMINAL_STATES, FlowRun, StateType, WorkerStatus
from prefect.client.schemas.responses import DeploymentResponse
from prefect.exceptions import ObjectNotFound

from crunch_tasks.contract import DatasetState
from crunch_tasks.errors import CrunchError, UsageError
from crunch_tasks.link.client import CrunchClient
from flows.burial import bury, running_of
from flows.dispatch_rules import (
    MOST_LEFT,
    TRIES,
    Dispatched,
    choose,
    is_of,
    is_still_lost,
    is_stuck,
    slug_of,
    told_left,
    told_names,
    told_stuck,
    waits,
)

LOOK_S = 2.0
PAGE = 200
AT_ONCE = 10
"""Runs at once on a work pool that has no limit."""


def find_deployment(prefect: SyncPrefectClient, name: str) -> DeploymentResponse:
    """Raises UsageError when it is not there."""
    try:
        return prefect.read_deployment_by_name(f"crunch/{name}")
    except ObjectNotFound:
        raise UsageError(
            f"There is no deployment crunch/{name}. Make it with `python -m deployments deploy`."
        ) from None


def limit_of(prefect: SyncPrefectClient, pool: str) -> int:
    """The work pool's own, or AT_ONCE when it takes any number of runs at once."""
    limit = prefect.read_work_pool(pool).concurrency_limit
    return AT_ONCE if limit is None else limit


@dataclass
class Dispatch:
    """One dispatch of a project's datasets to a deployment, with at most `limit` of its runs scheduled or running."""

    client: CrunchClient
    prefect: SyncPrefectClient
    deployment: DeploymentResponse
    project: str
    limit: int
    say: Callable[[str], None]
    seen: dict[str, set[UUID]] = field(default_factory=lambda: defaultdict(set))
    """The flow runs of each dataset that had not ended when this dispatch saw them first."""
    left: set[str] = field(default_factory=set)
    broken: set[str] = field(default_factory=set)
    """Those that are left alone and whose flow runs did not complete."""
    elsewhere: set[str] = field(default_factory=set)
    """Datasets of which another deployment has a flow run; whoever dispatched those sees to them."""
    said_no_worker: bool = False
    said_pending: set[UUID] = field(default_factory=set)
    lost: dict[str, int] = field(default_factory=dict)
    """Datasets whose lease had expired when one looked last, and which attempt each was at."""
    buried: set[tuple[str, int]] = field(default_factory=set)
    """Datasets and attempts whose flow runs were marked: the run that follows may not have claimed its dataset yet."""

    def work(self, *, once: bool) -> Dispatched:
        """Schedule until no dataset waits, and none is being processed that might be given back; `once`: what goes now.

        Raises CrunchError when the runs do not process what they are given.
        """
        try:
            return self._work(once)
        except KeyboardInterrupt:
            self.say("What is scheduled goes on without this command. The same command again goes on with the rest.")
            raise

    def _work(self, once: bool) -> Dispatched:
        told = ""
        while True:
            busy = self.fill()
            words = f"{self.runs} runs so far, {len(busy)} scheduled or running"
            if words != told:
                self.say(words)
            told = words
            if busy:
                self._check_workers()
            if once or not (is_of(self.project, busy) or self._may_come_back()):
                self._name(sorted(self.left), "left alone", "What was said of each tells why.")
                return Dispatched(self.project, self.runs, sorted(self.left), [] if once else self._failed())
            time.sleep(LOOK_S)

    def _may_come_back(self) -> bool:
        """Whether a dataset is being processed that might be given back, and could be scheduled then."""
        running = self._list(state=DatasetState.RUNNING.value)
        return any(row["slug"] not in self.left and not row["locked"] for row in running)

    def _list(self, **narrowed: str) -> Iterator[Mapping[str, Any]]:
        return self.client.pages("api/datasets/", project=self.project, **narrowed)

    def _failed(self) -> list[str]:
        """The datasets that were scheduled and have failed; says so."""
        if not self.seen:
            return []
        rows = self._list(state=DatasetState.FAILED.value)
        failed = sorted(slug for row in rows if (slug := str(row["slug"])) in self.seen)
        self._name(failed, "failed", "The pages of the datasets say why.")
        return failed

    def _name(self, slugs: Sequence[str], what: str, why: str) -> None:
        if slugs:
            self.say(told_names(slugs, what, why))

    @property
    def runs(self) -> int:
        return sum(map(len, self.seen.values()))

    def fill(self) -> list[str]:
        """Schedule what there is room for; the datasets whose runs are scheduled or running then."""
        # Asked before the datasets: a run that ends in between has told the server by then.
        active = self._active()
        rows = list(self._list(lease="expired"))
        self.lost = {str(row["slug"]): int(row["attempt"]) for row in rows}
        if self._bury_lost({slug_of(run) for run in active}):
            active = self._active()
        self._tell_pending(active)
        busy = [slug_of(run) for run in active]
        waiting = self._waiting([str(row["slug"]) for row in rows if not row["locked"]])
        # A dataset that was not scheduled after all leaves its place to the next.
        while chosen := list(choose(waiting, busy, self.left, self.limit)):
            busy += [slug for slug in chosen if self._schedule(slug)]
        return busy

    def _waiting(self, lost: Sequence[str]) -> Iterator[str]:
        """What the next claim would take, then those whose lease expired, then all that are unprocessed.

        That claim is one without a machine, which gets nothing that needs something: whom those fit, the workers say.
        """
        head = self.client.next(self.project)
        if head:
            yield head
        elif self.client.get_project(self.project)["paused"]:
            return
        yield from (slug for slug in lost if slug != head)
        rows = self._list(state=DatasetState.UNPROCESSED.value)
        yield from (str(row["slug"]) for row in rows if not row["locked"] and row["slug"] != head)

    def _schedule(self, slug: str) -> bool:
        """Whether the dataset has a flow run now, of this deployment, that has not ended: a new one, or another
        dispatch's.
        """
        for number in count():
            run = self.prefect.create_flow_run_from_deployment(
                self.deployment.id,
                parameters={"slug": slug, "only_waiting": True},
                name=f"run {slug}",
                tags=[self.project],
                idempotency_key=f"{self.client.url} {slug} {number}",
            )
            if run.state_type not in TERMINAL_STATES:
                if run.deployment_id != self.deployment.id:
                    self._note_elsewhere(slug, run)
                    return False
                self.seen[slug].add(run.id)
                return True
            if not waits(self.client.get_dataset(slug), self.lost):
                return False
            if len(self.seen[slug]) >= TRIES:
                self._leave(slug, run)
                return False
        return False

    def _note_elsewhere(self, slug: str, run: FlowRun) -> None:
        if slug not in self.elsewhere:
            self.elsewhere.add(slug)
            self.say(f"{slug} is scheduled on the work pool {run.work_pool_name} already.")

    def _check_workers(self) -> None:
        """Say once that nobody is there to take what is scheduled."""
        pool = self.deployment.work_pool_name
        if self.said_no_worker or pool is None:
            return
        online = WorkerFilter(status=WorkerFilterStatus(any_=[WorkerStatus.ONLINE]))
        if not self.prefect.read_workers_for_work_pool(pool, worker_filter=online, limit=1):
            self.said_no_worker = True
            self.say(
                f"The work pool {pool} has no worker now, so what is scheduled waits for one. Start it with "
                f"`prefect worker start --pool {pool}`."
            )

    def _tell_pending(self, active: Iterable[FlowRun]) -> None:
        """Say once of each flow run that keeps its place and does not begin what it is and what ends it."""
        now = dt.datetime.now(dt.UTC)
        for run in active:
            if run.id not in self.said_pending and is_stuck(run, now):
                self.said_pending.add(run.id)
                self.say(told_stuck(run))

    def _leave(self, slug: str, last: FlowRun) -> None:
        self.left.add(slug)
        if last.state_type != StateType.COMPLETED:
            self.broken.add(slug)
        self.say(told_left(slug, last))
        if len(self.broken) >= MOST_LEFT:
            raise CrunchError(
                f"{len(self.broken)} datasets had {TRIES} flow runs each, and none processed its dataset. Look at "
                f"those of crunch/{self.deployment.name} in Prefect's pages: the workers may lack a setting."
            )

    def _active(self) -> list[FlowRun]:
        """The deployment's flow runs that have not ended."""
        alive = FlowRunFilter(
            deployment_id=FlowRunFilterDeploymentId(any_=[self.deployment.id]),
            state=FlowRunFilterState(type=FlowRunFilterStateType(not_any_=sorted(TERMINAL_STATES))),
        )
        found: list[FlowRun] = []
        while page := self.prefect.read_flow_runs(flow_run_filter=alive, limit=PAGE, offset=len(found)):
            found += page
        return found

    def _bury_lost(self, active: AbstractSet[str]) -> bool:
        """Whether flow runs were marked, of those among the `active` datasets whose lease expired: once an attempt.

        Prefect does not hear of a machine that died; the lease does. Its place on the work pool is free again.
        """
        lost = [slug for slug, attempt in self.lost.items() if slug in active and (slug, attempt) not in self.buried]
        # In this order: a run that takes the dataset over is alive, and one that does so after the second look is not
        # among those of the first.
        running = {slug: running_of(self.prefect, slug) for slug in lost}
        dead = [slug for slug in lost if is_still_lost(self.client.get_dataset(slug), self.lost)]
        for slug in dead:
            self.buried.add((slug, self.lost[slug]))
            self.say(f"{slug}: its client is gone, its lease expired.")
            bury(self.prefect, running[slug])
        return bool(dead)
