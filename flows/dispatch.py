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
from dataclasses import asdict, dataclass, field
from itertools import count, islice
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

LOOK_S = 2.0
PAGE = 200
TRIES = 3
"""Flow runs of one dataset that a dispatch sees end without having processed it, before it leaves it alone."""
MOST_LEFT = 5
"""Datasets left alone whose flow runs did not complete, before it stops: it is not they that are wrong."""
NAMED = 5
"""Datasets that failed, or were left alone, which its last words name."""
REMEDY = (
    "If no worker has what the dataset needs, start one that has it, or ask for less on the dataset's page or its "
    "project's. Then dispatch again."
)
"""What to do about a dataset that no worker was given."""
PENDING_FOR = dt.timedelta(minutes=3)
"""A flow run that a worker took so long ago and that does not begin is told of: the worker may have died with it."""
AT_ONCE = 10
"""Runs at once on a work pool that has no limit."""


@dataclass
class Dispatched:
    """What a dispatch did: how many flow runs it saw begin, the datasets that none of theirs processed, and those of
    which one failed.
    """

    project: str
    runs: int = 0
    left: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)

    @property
    def exit_code(self) -> int:
        return 1 if self.left or self.failed else 0

    def as_json(self) -> dict[str, Any]:
        return {**asdict(self), "exit_code": self.exit_code}


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


def choose(waiting: Iterable[str], busy: Sequence[str], left: AbstractSet[str], limit: int) -> Iterator[str]:
    """Which datasets to schedule now: those that wait and have no run, as many as `limit` allows beside `busy` ones."""
    free = (slug for slug in waiting if slug not in busy and slug not in left)
    return islice(free, max(0, limit - len(busy)))


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
        told = ""
        while True:
            busy = self.fill()
            words = f"{self.runs} runs so far, {len(busy)} scheduled or running"
            if words != told:
                self.say(words)
            told = words
            if busy:
                self._check_workers()
            if once or not (self._is_busy(busy) or self._may_come_back()):
                self._name(sorted(self.left), "left alone", "What was said of each tells why.")
                return Dispatched(self.project, self.runs, sorted(self.left), [] if once else self._failed())
            time.sleep(LOOK_S)

    def _is_busy(self, busy: Sequence[str]) -> bool:
        """Whether runs for this project are scheduled or running; others may use the same deployment."""
        return any(slug.startswith(f"{self.project}:") for slug in busy)

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
            names = ", ".join(slugs[:NAMED]) + (" and others" if len(slugs) > NAMED else "")
            self.say(f"{len(slugs)} {what}: {names}. {why}")

    @property
    def runs(self) -> int:
        return sum(map(len, self.seen.values()))

    def fill(self) -> list[str]:
        """Schedule what there is room for; the datasets whose runs are scheduled or running then."""
        # Asked before the datasets: a run that ends in between has told the server by then.
        active = self._active()
        rows = list(self._list(lease="expired"))
        self.lost = {str(row["slug"]): int(row["attempt"]) for row in rows}
        if self._bury_lost({_slug(run) for run in active}):
            active = self._active()
        self._tell_pending(active)
        busy = [_slug(run) for run in active]
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
            if not self._still_waits(slug):
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
        since = dt.datetime.now(dt.UTC) - PENDING_FOR
        for run in active:
            state = run.state
            if state is None or state.type != StateType.PENDING or run.id in self.said_pending:
                continue
            if state.timestamp < since:
                self.said_pending.add(run.id)
                self.say(
                    f"{_slug(run)}: a worker took its flow run {run.name}, which does not begin. If that worker has "
                    f"died, `prefect flow-run cancel {run.id}` frees its place; an automation of `crunch up` and of "
                    "`python -m deployments` does it in the end."
                )

    def _still_waits(self, slug: str) -> bool:
        """Whether a claim could take the dataset now: its run, another dispatch's, may have come and gone meanwhile."""
        dataset = self.client.get_dataset(slug)
        return bool(dataset["state"] == DatasetState.UNPROCESSED.value) or self._is_still_lost(dataset)

    def _is_still_lost(self, dataset: Mapping[str, Any]) -> bool:
        """Whether nobody has taken the dataset over since its lease was seen to have expired."""
        attempt = self.lost.get(str(dataset["slug"]))
        return bool(dataset["state"] == DatasetState.RUNNING.value and dataset["attempt"] == attempt)

    def _leave(self, slug: str, last: FlowRun) -> None:
        self.left.add(slug)
        why = "Prefect's pages say why."
        if last.state_type == StateType.COMPLETED:
            # It ended as Idle: the server gave the dataset to no worker that asked.
            why = f"{(last.state and last.state.message) or why} {REMEDY}"
        else:
            self.broken.add(slug)
        self.say(f"{slug} is left alone: {TRIES} flow runs ended without processing it. {why}")
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
        dead = [slug for slug in lost if self._is_still_lost(self.client.get_dataset(slug))]
        for slug in dead:
            self.buried.add((slug, self.lost[slug]))
            self.say(f"{slug}: its client is gone, its lease expired.")
            bury(self.prefect, running[slug])
        return bool(dead)


def _slug(run: FlowRun) -> str:
    return str(run.parameters.get("slug", ""))
