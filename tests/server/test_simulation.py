"""The simulation of many clients keeps what the server promises: on the real services, with deaths and outages."""

from __future__ import annotations

import math
import random
from dataclasses import replace

import pytest
from rest_framework.test import APIClient

from benchmarks.simulation.calls import CLAIM, HEARTBEAT, STATUS, Answer, Call, Cost
from benchmarks.simulation.drawn import DrawnSite, MixedSite, demand
from benchmarks.simulation.figures import part
from benchmarks.simulation.ledger import Audited, Broken, Ledger
from benchmarks.simulation.plan import Outage, Plan
from benchmarks.simulation.real import RealSite, virtual_clock
from benchmarks.simulation.server import Size
from benchmarks.simulation.world import World
from crunch_tasks.contract import MAX_HEARTBEAT_SECONDS
from server.models import Dataset, Project
from server.services import catalogue

DATASETS = 20
COST = Cost(0.01, 0.003)

HARD = Plan(
    seed=7,
    clients=4,
    dies_each_s=300,
    fails=0.05,
    server_outage=Outage(200, 400),
    storage_outage=Outage(500, 600),
    retry_each_s=150,
    speed=5,
)


@pytest.fixture
def datasets(project: Project) -> int:
    Project.objects.update(lease_seconds=90)
    for number in range(DATASETS):
        catalogue.create_dataset(project, name=f"d{number}")
    return DATASETS


class Priced:
    """The real server, whose calls all cost the same: so the course does not depend on how fast this machine is."""

    def __init__(self, api: APIClient) -> None:
        self.site = RealSite(api)

    def do(self, call: Call, now: float) -> tuple[Answer, Cost]:
        answer, _ = self.site.do(call, now)
        return answer, COST


def all_done() -> bool:
    return not Dataset.objects.exclude(state="completed").exists()


def test_each_dataset_is_completed_once_whatever_happens(api: APIClient, datasets: int) -> None:
    ledger = Ledger()
    world = World(HARD, Audited(Priced(api), ledger), Size(processes=2))
    with virtual_clock(lambda: world.loop.now):
        world.run(all_done)
    ledger.check_finished(Dataset.objects.completed().count(), datasets)
    # It was as hard as planned.
    assert world.kills > 5
    assert ledger.counts["taken over"] > 0
    assert ledger.counts["taken up again"] > 0
    assert ledger.counts["failed"] > 0
    assert sum(world.figures.unanswered.values()) > 0


def test_with_drawn_calls_no_promise_is_broken_and_each_commit_is_the_servers(api: APIClient, datasets: int) -> None:
    costs = {kind: [COST] for kind in (CLAIM, STATUS, HEARTBEAT)}
    ledger = Ledger()
    mixed = MixedSite(Audited(Priced(api), ledger), DrawnSite(costs, random.Random(1), MAX_HEARTBEAT_SECONDS))
    world = World(replace(HARD, seconds=900), mixed, Size(processes=2))
    with virtual_clock(lambda: world.loop.now):
        world.run()
    assert mixed.done["drawn"] > mixed.done["real"] / 2
    assert 0 < Dataset.objects.completed().count() == len(ledger.completed)


class Forgetful:
    """A server that gives the same dataset to everybody, or takes a second commit of it."""

    def __init__(self, fences: list[int]) -> None:
        self.fences = fences

    def do(self, call: Call, now: float) -> tuple[Answer, Cost]:
        if call.kind != CLAIM:
            return Answer(200 if call.kind == HEARTBEAT else 201, {"effective": True}), Cost(0, 0)
        fence = self.fences.pop(0)
        told = {"claim": fence, "fence": fence, "ttl_s": 900.0, "heartbeat_s": 30.0, "dataset": {"id": 1}}
        return Answer(201, told), Cost(0, 0)


@pytest.mark.parametrize(
    ("clients", "fences", "broken"), [(2, [1, 2], "two fences live"), (1, [1, 2], "on a completed dataset")]
)
def test_a_server_that_breaks_a_promise_is_found_out(clients: int, fences: list[int], broken: str) -> None:
    world = World(Plan(seed=1, clients=clients), Audited(Forgetful(fences), Ledger()), Size(processes=1))
    with pytest.raises(Broken, match=broken):
        world.run()


def drawn_world(clients: int, size: Size) -> World:
    costs = {kind: [Cost(0.06, 0.006)] for kind in (CLAIM, STATUS, HEARTBEAT)}
    site = DrawnSite(costs, random.Random(1), MAX_HEARTBEAT_SECONDS)
    world = World(Plan(seed=3, clients=clients, seconds=200), site, size)
    world.run()
    return world


def test_a_seed_gives_the_same_course_again_and_more_processes_wait_less() -> None:
    few, again, more = drawn_world(250, Size(1)), drawn_world(250, Size(1)), drawn_world(250, Size(4))
    assert few.figures.times == again.figures.times
    worst = part(few.figures.times[HEARTBEAT], 0.99)
    assert worst > 2 * part(more.figures.times[HEARTBEAT], 0.99) > 0


def test_an_overloaded_server_answers_in_vain_unless_it_refuses_what_waited_too_long() -> None:
    in_vain, refusing = drawn_world(800, Size(1, gives_up_s=math.inf)), drawn_world(800, Size(1))
    late, in_time = (sum(map(len, world.figures.times.values())) for world in (in_vain, refusing))
    assert in_time > 2 * late


def test_a_server_of_the_size_that_is_needed_answers_all_in_time() -> None:
    costs = {kind: [Cost(0.06, 0.02)] for kind in (CLAIM, STATUS, HEARTBEAT)}
    plan = Plan(seed=3, clients=800, seconds=300, start_s=100)
    needed = demand(costs, plan)
    # 800 clients send a heartbeat each 30 s, and seven calls in each run of seven or eight minutes.
    assert needed.python_s == pytest.approx(0.062 * (800 / 30 + 7 * 800 / plan.run_s), rel=1e-6)
    assert needed.database_s == pytest.approx(needed.python_s * 20 / 62)
    world = World(plan, DrawnSite(costs, random.Random(1), 30), Size(math.ceil(needed.python_s / 0.7)))
    world.run()
    assert not world.figures.unanswered
