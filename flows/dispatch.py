"""`crunch dispatch`: unprocessed datasets become flow runs of crunch/run on a work pool, so many at once.

What is scheduled is a wish: the claim decides. A run whose dataset somebody else has or has processed ends at once, as
Completed. So several dispatches, clients and schedules may be at work on one project.

A dataset is scheduled once, however many dispatch it: its flow run has an idempotency key that all of them make alike,
the slug and how many such runs it had before. One that another work pool was given is not this dispatch's.
"""

from __future__ import annotations

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
from flows.burial import bury

LOOK_S = 2.0
PAGE = 200
TRIES = 3
"""Flow runs of one dataset that a dispatch sees end without having processed it, before it leaves it alone."""
MOST_LEFT = 5
"""Datasets left alone whose flow runs did not complete, before it stops: it is not they that are wrong."""
NAMED = 5
"""Failed datasets that its last words name."""
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
            if once or not (self._is_busy(busy) or any(self._list(DatasetState.RUNNING))):
                return Dispatched(self.project, self.runs, sorted(self.left), [] if once else self._failed())
            time.sleep(LOOK_S)

    def _is_busy(self, busy: Sequence[str]) -> bool:
        """Whether runs for this project are scheduled or running; others may use the same deployment."""
        return any(slug.startswith(f"{self.project}:") for slug in busy)

    def _list(self, state: DatasetState) -> Iterator[Mapping[str, Any]]:
        return self.client.pages("api/datasets/", project=self.project, state=state.value)

    def _failed(self) -> list[str]:
        """The datasets that were scheduled and have failed; says so."""
        if not self.seen:
            return []
        failed = sorted(slug for row in self._list(DatasetState.FAILED) if (slug := str(row["slug"])) in self.seen)
        if failed:
            names = ", ".join([*failed[:NAMED], *(["..."] if len(failed) > NAMED else [])])
            self.say(f"{len(failed)} failed: {names}. The pages of the datasets say why.")
        return failed

    @property
    def runs(self) -> int:
        return sum(map(len, self.seen.values()))

    def fill(self) -> list[str]:
        """Schedule what there is room for; the datasets whose runs are scheduled or running then."""
        # Asked before the datasets: a run that ends in between has told the server by then.
        active = self._active()
        head = self.client.next(self.project)
        if any(_slug(run) == head for run in active) and self._bury_lost(head):
            active = self._active()
        busy = [_slug(run) for run in active]
        waiting = self._waiting(head)
        # A dataset that was not scheduled after all leaves its place to the next.
        while chosen := list(choose(waiting, busy, self.left, self.limit)):
            busy += [slug for slug in chosen if self._schedule(slug)]
        return busy

    def _waiting(self, head: str) -> Iterator[str]:
        """What the next claim would take, which may be one whose lease expired, then all that are unprocessed.

        That claim is one without a machine, which gets nothing that needs something: whom those fit, the workers say.
        """
        if head:
            yield head
        elif self.client.get_project(self.project)["paused"]:
            return
        rows = self._list(DatasetState.UNPROCESSED)
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

    def _still_waits(self, slug: str) -> bool:
        """Whether a claim could take the dataset now: its run, another dispatch's, may have come and gone meanwhile."""
        state = self.client.get_dataset(slug)["state"]
        return bool(state == DatasetState.UNPROCESSED.value) or self.client.next(self.project) == slug

    def _leave(self, slug: str, last: FlowRun) -> None:
        self.left.add(slug)
        why = "Prefect's pages say why."
        if last.state_type == StateType.COMPLETED:
            # It ended as Idle: the server gave the dataset to no worker that asked, as it fits none, say.
            why = (last.state and last.state.message) or why
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

    def _bury_lost(self, slug: str) -> bool:
        """Whether the flow runs of what the next claim would take were marked: its lease expired, once an attempt.

        Prefect does not hear of a machine that died; the lease does. Its place on the work pool is free again.
        """
        dataset = self.client.get_dataset(slug)
        attempt = (slug, int(dataset["attempt"]))
        if dataset["state"] != DatasetState.RUNNING.value or attempt in self.buried:
            return False
        # It may have waited when it was named, and have been claimed since.
        if self.client.next(self.project) != slug:
            return False
        self.buried.add(attempt)
        self.say(f"{slug}: its client is gone, its lease expired.")
        bury(self.prefect, slug)
        return True


def _slug(run: FlowRun) -> str:
    return str(run.parameters.get("slug", ""))
