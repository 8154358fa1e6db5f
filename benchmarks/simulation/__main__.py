"""`make simulate`: how many clients one server carries, and what deaths and outages do, in four simulations.

    whole     200 clients process 5,000 datasets to the last one. Every call is real.
    window    16 minutes of 10,000 clients (or --clients) on 1,000,000 datasets, with deaths and outages. Every claim,
              commit and Fail is real, and a part of the heartbeats; what the other calls cost is drawn from what real
              ones did.
    outage    The same 16 minutes, on more and fewer server processes. Nothing is real but the costs.
    steady    Ever more clients on ever more server processes, without a mishap. Nothing is real but the costs.

Without a word all of them, after one another: about an hour on a calm machine, of which `whole` and `window` take most.
It ends with exit code 1 at the first promise that the server breaks.
"""

from __future__ import annotations

import argparse
import logging
import math
import os
import random
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from benchmarks import in_process
from benchmarks.simulation import figures
from benchmarks.simulation.calls import CLAIM, HEARTBEAT, STATUS, Call, Site
from benchmarks.simulation.drawn import Costs, DrawnSite, Measuring, MixedSite, demand
from benchmarks.simulation.ledger import Audited, Broken, Ledger
from benchmarks.simulation.plan import Outage, Plan
from benchmarks.simulation.real import RealSite, virtual_clock
from benchmarks.simulation.server import Size
from benchmarks.simulation.world import World
from crunch_tasks.contract import MAX_HEARTBEAT_SECONDS
from tests.support.servers import Postgres, postgres

SEED = 20

WHOLE_DATASETS = 5_000
WHOLE = Plan(
    seed=SEED,
    clients=200,
    dies_each_s=3600,
    fails=0.02,
    server_outage=Outage(600, 1200),
    storage_outage=Outage(1500, 1800),
    retry_each_s=300,
    speed=10,
)

WINDOW_DATASETS = 1_000_000
WINDOW = Plan(
    seed=SEED,
    clients=10_000,
    seconds=960,
    dies_each_s=6 * 3600,
    fails=0.01,
    server_outage=Outage(120, 720),
    storage_outage=Outage(780, 870),
    retry_each_s=math.inf,
    speed=0.5,
)
BUSY = 0.7
"""The window's server is as large as its clients keep busy for so much of the time."""

WARM_UPS = [Plan(seed=SEED + number, clients=20, seconds=400, speed=3, retry_each_s=math.inf) for number in (1, 2, 3)]
"""What the costs of the drawn calls are measured with, on the full table: the cheapest counts, as whatever else a
machine does makes calls dearer only."""

CLIENTS = (1_000, 2_000, 5_000, 10_000)
PROCESSES = (1, 2, 4, 8)
STEADY_S = 480.0
LONG_HEARTBEAT_S = 300.0
"""A third of the usual lease, instead of at most half a minute."""


def main() -> None:
    parts = ["whole", "window", "outage", "steady"]
    parser = argparse.ArgumentParser(prog="python -m benchmarks.simulation")
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"{', '.join(parts)}; all if none is named")
    parser.add_argument("--clients", type=int, default=10_000, metavar="N", help="of the window and the outage")
    asked = parser.parse_args()
    if unknown := set(asked.parts) - set(parts):
        parser.error(f"There is no {', '.join(sorted(unknown))}; a PART is one of {', '.join(parts)}.")
    if asked.clients < 1:
        parser.error(f"--clients {asked.clients}: at least one is needed.")
    in_process.set_up()
    # A client that hears that its lease is lost is what is simulated, no news.
    logging.getLogger("django.request").setLevel(logging.ERROR)
    # Nobody pulls the plug, and waiting for the disk is no part of the costs.
    os.environ["PGOPTIONS"] = "-c synchronous_commit=off"
    say([f"seed {SEED}, load of this machine {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores"])
    wanted = asked.parts or parts
    try:
        with postgres() as cluster:
            if "whole" in wanted:
                whole(cluster)
            if wanted != ["whole"]:
                many(cluster, wanted, asked.clients)
    except Broken as broken:
        sys.exit(f"A promise is broken: {broken}")


def whole(cluster: Postgres) -> None:
    """Every dataset to its end, all calls real."""
    from server.models import Dataset

    with in_process.database(cluster.new_database()):
        site = RealSite(in_process.alice(), cluster.cluster.get_pid())
        names = [{"name": f"Sample {number:04}"} for number in range(WHOLE_DATASETS)]
        site.do(Call("project", "projects/", {"name": "Birds", "workflow": "#!/bin/bash\n", "lease_seconds": 300}), 0.0)
        site.do(Call("bulk", "projects/birds/datasets/bulk/", {"datasets": names}), 0.0)
        ledger = Ledger()
        world = World(WHOLE, Audited(site, ledger), Size(processes=2))
        run(world, lambda: Dataset.objects.completed().count() == WHOLE_DATASETS)
        ledger.check_finished(Dataset.objects.completed().count(), WHOLE_DATASETS)
    tell("whole", world)
    say([*audit(ledger), "none lost: all are completed"])


def many(cluster: Postgres, wanted: Sequence[str], clients: int) -> None:
    """What needs the full table, and the costs of calls on it."""
    from benchmarks.server_rows import fill

    plan = replace(WINDOW, clients=clients)
    with in_process.database(cluster.new_database()):
        fill(WINDOW_DATASETS)
        site = RealSite(in_process.alice(), cluster.cluster.get_pid())
        costs = measured(site)
        size = fitting(plan, costs)
        if "window" in wanted:
            window(plan, size, site, costs)
    if "outage" in wanted:
        outage(plan, size, costs)
    if "steady" in wanted:
        steady(costs)


def measured(site: Site) -> Costs:
    """What calls of each kind cost, of real runs."""
    found = []
    for plan in WARM_UPS:
        measuring = Measuring(site)
        run(World(plan, measuring, Size(processes=2)))
        found.append({kind: measuring.costs[kind] for kind in (CLAIM, STATUS, HEARTBEAT)})
    cheapest = min(found, key=lambda costs: statistics.mean(sum(cost) for cost in costs[HEARTBEAT]))
    say(["", f"What a call costs, with {WINDOW_DATASETS:,} datasets:", "", *figures.costs_table(cheapest)])
    return cheapest


def fitting(plan: Plan, costs: Costs) -> Size:
    """A server that the plan's clients keep BUSY."""
    needed = demand(costs, plan)
    say(["", f"{plan.clients:,} clients keep {needed.python_s:.1f} processes and {needed.database_s:.1f} cores busy."])
    return Size(math.ceil(needed.python_s / BUSY), math.ceil(needed.database_s / BUSY))


def window(plan: Plan, size: Size, site: Site, costs: Costs) -> None:
    ledger = Ledger()
    mixed = MixedSite(Audited(site, ledger), drawn(costs))
    world = World(plan, mixed, size)
    run(world)
    tell("window", world)
    say([*audit(ledger), f"calls that the server answered: {mixed.done}"])


def outage(plan: Plan, size: Size, costs: Costs) -> None:
    half, double = replace(size, processes=max(1, size.processes // 2)), replace(size, processes=2 * size.processes)
    for tried in (replace(half, gives_up_s=math.inf), half, size, double):
        world = World(plan, drawn(costs), tried)
        run(world)
        tell("outage", world)


def drawn(costs: Costs, heartbeat_s: float = MAX_HEARTBEAT_SECONDS) -> DrawnSite:
    return DrawnSite(costs, random.Random(SEED), heartbeat_s)


def steady(costs: Costs) -> None:
    """How long calls take, of so many clients and processes, and with rarer heartbeats."""
    for heartbeat_s in (MAX_HEARTBEAT_SECONDS, LONG_HEARTBEAT_S):
        rows = [
            [f"{clients:,}", *(_steady(costs, clients, processes, heartbeat_s) for processes in PROCESSES)]
            for clients in CLIENTS
        ]
        head = ("clients", *(f"{number} process{'es' * (number > 1)}" for number in PROCESSES))
        title = f"p50 / p99 in ms (share of calls without an answer in time), a heartbeat each {heartbeat_s:g} s:"
        say(["", title, "", *figures.table(head, rows)])


def _steady(costs: Costs, clients: int, processes: int, heartbeat_s: float) -> str:
    """The cell of so many clients and processes: they start over half of the time, and are measured in the other."""
    plan = Plan(seed=SEED, clients=clients, seconds=STEADY_S, start_s=STEADY_S / 2, retry_each_s=math.inf)
    world = World(plan, drawn(costs, heartbeat_s), Size(processes, max(4, processes)))
    run(world)
    return world.figures.cell(int(STEADY_S / 2 / figures.SLICE_S))


def run(world: World, over: Callable[[], bool] = lambda: False) -> None:
    began = time.perf_counter()
    with virtual_clock(lambda: world.loop.now):
        world.run(over)
    took_s = time.perf_counter() - began
    print(f"{world.loop.now:.0f} s of {world.plan.clients} clients took {took_s:.0f} s", file=sys.stderr)


def tell(name: str, world: World) -> None:
    seconds, size = world.loop.now, world.server.size
    title = f"{name}: {world.plan.clients:,} clients, {size}, {seconds:,.0f} s, {world.kills} kills"
    calls, course = figures.calls_table(world.figures, seconds), figures.course_table(world.figures)
    say(["", title, "", *calls, "", *course, ""])


def audit(ledger: Ledger) -> list[str]:
    return [
        f"completed {len(ledger.completed):,}; {dict(ledger.counts)}",
        "no dataset with two live fences, none completed twice",
    ]


def say(lines: Iterable[str]) -> None:
    print("\n".join(lines), flush=True)


if __name__ == "__main__":
    main()
