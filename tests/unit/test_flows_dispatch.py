"""Which datasets a dispatch schedules, and what it makes of the flow runs that it finds."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
from prefect.client.schemas.objects import TERMINAL_STATES, StateType

from crunch_tasks.contract import ClaimRequest
from crunch_tasks.testing import FakeServer
from flows import dispatch as module
from flows.dispatch import Dispatch, limit_of
from flows.dispatch_rules import choose


@pytest.mark.parametrize(
    ("waiting", "busy", "left", "limit", "chosen"),
    [
        (["a", "b", "c"], [], set(), 2, ["a", "b"]),
        (["a", "b", "c"], ["a"], set(), 2, ["b"]),
        (["a", "b", "c"], ["x", "y"], set(), 2, []),
        # Others have scheduled more than that.
        (["a", "b", "c"], ["x", "y", "z"], set(), 2, []),
        (["a", "b", "c"], [], {"a"}, 2, ["b", "c"]),
        ([], ["a"], set(), 2, []),
    ],
)
def test_choose(waiting: list[str], busy: list[str], left: set[str], limit: int, chosen: list[str]) -> None:
    assert list(choose(waiting, busy, left, limit)) == chosen


def test_no_more_of_a_long_list_is_read_than_is_needed() -> None:
    rows = iter(str(number) for number in range(1000))
    assert list(choose(rows, ["0"], set(), 3)) == ["1", "2"]
    assert next(rows) == "3"


@dataclass
class FakePrefect:
    """The flow runs of a Prefect server: the same idempotency key gives the same run, as there."""

    runs: dict[str, Any] = field(default_factory=dict)
    pools: dict[UUID, str] = field(default_factory=dict)
    """The work pools of deployments, those that are not on `crunch`."""
    limit: int | None = None
    ends: Callable[[Any], None] | None = None
    """What becomes of a flow run as soon as it is looked for."""

    def create_flow_run_from_deployment(
        self, deployment: UUID, *, parameters: dict[str, Any], name: str, idempotency_key: str, **_: Any
    ) -> Any:
        made = SimpleNamespace(
            id=uuid4(),
            name=name,
            deployment_id=deployment,
            work_pool_name=self.pools.get(deployment, "crunch"),
            parameters=parameters,
            state_type=StateType.SCHEDULED,
            state=None,
        )
        return self.runs.setdefault(idempotency_key, made)

    def read_flow_runs(self, *, flow_run_filter: Any, offset: int = 0, **_: Any) -> list[Any]:
        """Those of a deployment that have not ended; or, as those to bury are asked for by name, the running ones."""
        if self.ends:
            for run in self.runs.values():
                self.ends(run)
        asked = flow_run_filter.deployment_id
        if asked is None:
            names = flow_run_filter.name.any_
            return [run for run in self.runs.values() if run.state_type == StateType.RUNNING and run.name in names]
        alive = [run for run in self.runs.values() if run.state_type not in TERMINAL_STATES]
        return [run for run in alive if run.deployment_id in asked.any_][offset:]

    def read_work_pool(self, _: str) -> Any:
        return SimpleNamespace(concurrency_limit=self.limit)

    def read_workers_for_work_pool(self, *_: Any, **__: Any) -> list[Any]:
        return []

    def set_flow_run_state(self, number: UUID, state: Any, **_: Any) -> None:
        [run] = [run for run in self.runs.values() if run.id == number]
        run.state_type = state.type


@dataclass
class Bench:
    """A project `p` on a server, a Prefect server, and what a dispatch said."""

    server: FakeServer = field(default_factory=FakeServer)
    prefect: FakePrefect = field(default_factory=FakePrefect)
    said: list[str] = field(default_factory=list)
    deployment: Any = field(
        default_factory=lambda: SimpleNamespace(id=uuid4(), name="run", work_pool_name="crunch", tags=[])
    )

    def dispatch(self, limit: int = 2) -> Dispatch:
        prefect: Any = self.prefect
        return Dispatch(self.server.client(), prefect, self.deployment, "p", limit, self.said.append)


@pytest.fixture
def bench() -> Iterator[Bench]:
    made = Bench()
    made.server.add_project("p")
    yield made


def test_datasets_that_need_something_are_scheduled_and_those_of_a_paused_project_are_not(bench: Bench) -> None:
    bench.server.add_dataset("p", "large", needs="gpus=1")
    bench.server.projects["p"]["paused"] = True
    assert bench.dispatch().fill() == []
    bench.server.projects["p"]["paused"] = False
    assert bench.dispatch().fill() == ["p:large"]


def test_the_run_of_a_dataset_that_was_claimed_while_one_looked_is_not_taken_for_dead(bench: Bench) -> None:
    bench.server.add_dataset("p", "d")
    dispatch = bench.dispatch()
    assert dispatch.fill() == ["p:d"]
    bench.server.client().claim(ClaimRequest("r1", dataset="p:d"))
    [run] = bench.prefect.runs.values()
    run.state_type = StateType.RUNNING
    bench.server.advance(bench.server.lease_seconds + 1)

    def claim_late(request: httpx.Request) -> None:
        """Another run takes it over after it was listed as lost."""
        if request.url.path.endswith("/datasets/p:d/"):
            bench.server.before = None
            bench.server.client().claim(ClaimRequest("r2", dataset="p:d"))

    bench.server.before = claim_late
    assert dispatch.fill() == ["p:d"]
    assert (run.state_type, bench.said) == (StateType.RUNNING, [])

    bench.server.advance(bench.server.lease_seconds + 1)
    assert dispatch.fill() == ["p:d"]
    assert (run.state_type, bench.said) == (StateType.CRASHED, ["p:d: its client is gone, its lease expired."])
    assert len(bench.prefect.runs) == 2
    # The one that follows has not claimed it yet.
    assert dispatch.fill() == ["p:d"]
    assert len(bench.said) == 1


def test_a_run_that_begins_after_one_looked_is_not_marked_with_the_dead_one(bench: Bench) -> None:
    bench.server.add_dataset("p", "d")
    dispatch = bench.dispatch()
    dispatch.fill()
    bench.server.client().claim(ClaimRequest("r1", dataset="p:d"))
    [run] = bench.prefect.runs.values()
    run.state_type = StateType.RUNNING
    bench.server.advance(bench.server.lease_seconds + 1)
    late = SimpleNamespace(id=uuid4(), name="p:d", deployment_id=None, parameters={}, state_type=StateType.RUNNING)

    def begin_late(request: httpx.Request) -> None:
        if request.url.path.endswith("/datasets/p:d/"):
            bench.server.before = None
            bench.prefect.runs["late"] = late

    bench.server.before = begin_late
    dispatch.fill()
    assert (run.state_type, late.state_type) == (StateType.CRASHED, StateType.RUNNING)


def test_all_that_dead_machines_had_is_scheduled_anew_also_what_needs_something(bench: Bench) -> None:
    for name in ("d1", "d2", "d3"):
        bench.server.add_dataset("p", name, needs="gpus=1")
    dispatch = bench.dispatch()
    assert dispatch.fill() == ["p:d1", "p:d2"]
    for number, run in enumerate(bench.prefect.runs.values()):
        bench.server.client().claim(ClaimRequest(f"r{number}", dataset=run.parameters["slug"]))
        run.state_type = StateType.RUNNING
    assert dispatch.fill() == ["p:d1", "p:d2"]
    bench.server.advance(bench.server.lease_seconds + 1)
    assert dispatch.fill() == ["p:d1", "p:d2"]
    assert bench.said == [f"p:{name}: its client is gone, its lease expired." for name in ("d1", "d2")]
    states = [(run.parameters["slug"], run.state_type) for run in bench.prefect.runs.values()]
    assert states == [
        *((f"p:{name}", StateType.CRASHED) for name in ("d1", "d2")),
        *((f"p:{name}", StateType.SCHEDULED) for name in ("d1", "d2")),
    ]


def test_what_was_lost_and_fits_no_worker_any_more_or_is_held_does_not_keep_it_waiting(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LOOK_S", 0)
    for name in ("large", "held"):
        bench.server.add_dataset("p", name, needs="gpus=1")
        bench.server.client().claim(ClaimRequest(name, dataset=f"p:{name}"))
    bench.server.datasets["p:held"]["locked"] = True
    bench.server.advance(bench.server.lease_seconds + 1)
    bench.prefect.ends = end_as_idle("p:large does not fit this machine: it asks for gpus=1.")
    done = bench.dispatch().work(once=False)
    assert (done.left, done.runs, done.exit_code) == (["p:large"], 3, 1)


def end_as_idle(message: str) -> Callable[[Any], None]:
    """What becomes of a flow run whose dataset no worker was given."""

    def end(run: Any) -> None:
        run.state_type, run.state = StateType.COMPLETED, SimpleNamespace(message=message)

    return end


def test_what_another_work_pool_was_given_takes_no_place_here(bench: Bench) -> None:
    for name in ("d1", "d2", "d3", "d4"):
        bench.server.add_dataset("p", name)
    here, bench.deployment = bench.deployment, SimpleNamespace(id=uuid4(), name="run-bare", work_pool_name="bare")
    bench.prefect.pools[bench.deployment.id] = "bare"
    assert bench.dispatch().fill() == ["p:d1", "p:d2"]

    bench.deployment, bench.said = here, []
    dispatch = bench.dispatch()
    assert [dispatch.fill() for _ in range(2)] == [["p:d3", "p:d4"]] * 2
    assert bench.said == [f"p:{name} is scheduled on the work pool bare already." for name in ("d1", "d2")]
    assert dispatch.runs == 2


def test_that_no_worker_is_there_is_said_once(bench: Bench) -> None:
    dispatch = bench.dispatch()
    dispatch.work(once=True)
    assert bench.said == ["0 runs so far, 0 scheduled or running"]
    bench.server.add_dataset("p", "d")
    for _ in range(2):
        dispatch.work(once=True)
    [told] = [text for text in bench.said if "no worker" in text]
    assert "`prefect worker start --pool crunch`" in told


def test_a_pool_without_a_limit_is_given_ten_at_once(bench: Bench) -> None:
    prefect: Any = bench.prefect
    assert limit_of(prefect, "crunch") == 10
    bench.prefect.limit = 3
    assert limit_of(prefect, "crunch") == 3


def test_it_ends_with_the_names_of_those_that_failed(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LOOK_S", 0)
    for name in ("bad", "good"):
        bench.server.add_dataset("p", name)
    bench.server.add_dataset("p", "before", state="failed")

    def end(run: Any) -> None:
        slug = run.parameters["slug"]
        run.state_type = StateType.COMPLETED if slug == "p:good" else StateType.FAILED
        bench.server.datasets[slug]["state"] = "completed" if slug == "p:good" else "failed"

    bench.prefect.ends = end
    done = bench.dispatch().work(once=False)
    assert (done.failed, done.runs, done.exit_code) == (["p:bad"], 2, 1)
    assert bench.said[-1] == "1 failed: p:bad. The pages of the datasets say why."


def test_datasets_that_fit_no_worker_are_left_alone_and_do_not_end_the_dispatch(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LOOK_S", 0)
    names = [f"p:d{number}" for number in range(6)]
    for slug in names:
        bench.server.add_dataset("p", slug.removeprefix("p:"), needs="gpus=8")

    bench.prefect.ends = end_as_idle("It asks for gpus=8.")
    done = bench.dispatch().work(once=False)
    assert (done.left, done.failed, done.exit_code, done.runs) == (names, [], 1, 18)
    [told] = [text for text in bench.said if text.startswith("p:d5 is left alone")]
    assert "3 flow runs ended without processing it. It asks for gpus=8. If no worker has" in told
    assert "start one that has it, or ask for less" in told and "dispatch again" in told
    assert bench.said[-1] == f"6 left alone: {', '.join(names[:5])} and others. What was said of each tells why."


def test_a_run_that_a_worker_took_and_that_does_not_begin_is_told_of_once(bench: Bench) -> None:
    for name in ("a", "b"):
        bench.server.add_dataset("p", name=name)
    dispatch = bench.dispatch()
    dispatch.fill()
    long_ago, now = (dt.datetime.now(dt.UTC) - dt.timedelta(minutes=minutes) for minutes in (5, 0))
    for run, since in zip(bench.prefect.runs.values(), (long_ago, now), strict=True):
        run.state_type = StateType.PENDING
        run.state = SimpleNamespace(type=StateType.PENDING, timestamp=since, message="")
    bench.said.clear()
    dispatch.fill()
    dispatch.fill()
    [told] = bench.said
    assert told.startswith("p:a: a worker took its flow run run p:a")
    assert str(next(iter(bench.prefect.runs.values())).id) in told


def test_ctrl_c_is_answered_with_what_becomes_of_what_is_scheduled(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def ctrl_c(_: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(module.time, "sleep", ctrl_c)
    bench.server.add_dataset("p", "d")
    with pytest.raises(KeyboardInterrupt):
        bench.dispatch().work(once=False)
    assert "What is scheduled goes on" in bench.said[-1] and "The same command again" in bench.said[-1]
