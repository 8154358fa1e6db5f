"""Calls whose cost is drawn from what real ones of their kind cost, so that more can be simulated than done."""

from __future__ import annotations

import itertools
import random
import statistics
from collections import defaultdict

from benchmarks.simulation.calls import CLAIM, HEARTBEAT, STATUS, Answer, Call, Cost, Site
from benchmarks.simulation.plan import Plan
from benchmarks.simulation.server import HTTP_S
from crunch_tasks.contract import LEASE_SECONDS, MAX_HEARTBEAT_SECONDS

RENEWAL_S = 240.0
"""A lease that was not really renewed for so long is, with its next heartbeat: then an outage of ten minutes does not
end it sooner than it would have ended."""

Costs = dict[str, list[Cost]]
"""What calls of each kind cost."""


def demand(costs: Costs, plan: Plan) -> Cost:
    """How many server processes, and how many cores of the database, the plan's clients keep busy without a mishap."""

    def mean(kind: str) -> Cost:
        python_s, database_s = zip(*costs[kind], strict=True)
        return Cost(statistics.mean(python_s), statistics.mean(database_s))

    claim, status, heartbeat = mean(CLAIM), mean(STATUS), mean(HEARTBEAT)
    beats, runs = plan.clients / MAX_HEARTBEAT_SECONDS, plan.clients / plan.run_s
    calls = beats + 7 * runs
    return Cost(
        beats * heartbeat.python_s + runs * (claim.python_s + 6 * status.python_s) + calls * HTTP_S,
        beats * heartbeat.database_s + runs * (claim.database_s + 6 * status.database_s),
    )


class Measuring:
    """Passes all calls on, and remembers their costs."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.costs: defaultdict[str, list[Cost]] = defaultdict(list)

    def do(self, call: Call, now: float) -> tuple[Answer, Cost]:
        answer, cost = self.site.do(call, now)
        self.costs[call.kind].append(cost)
        return answer, cost


class DrawnSite:
    """Nothing is real but the costs: there is always a dataset to claim, and no lease is ever lost."""

    def __init__(self, costs: Costs, chance: random.Random, heartbeat_s: float) -> None:
        self.costs = costs
        self.heartbeat_s = heartbeat_s
        self._chance = chance
        self._numbers = itertools.count(1)

    def do(self, call: Call, now: float) -> tuple[Answer, Cost]:  # noqa: ARG002
        return self._answer(call), self._chance.choice(self.costs[call.kind])

    def _answer(self, call: Call) -> Answer:
        if call.kind != CLAIM:
            return Answer(201 if call.kind == STATUS else 200, {"effective": True})
        number = next(self._numbers)
        told = {"claim": number, "fence": 1, "ttl_s": float(LEASE_SECONDS), "heartbeat_s": self.heartbeat_s}
        return Answer(201, {**told, "dataset": {"id": number}})


class MixedSite:
    """Real is each call that takes, ends or keeps a lease; drawn are the statuses between, and most heartbeats."""

    def __init__(self, real: Site, drawn: DrawnSite) -> None:
        self.real = real
        self.drawn = drawn
        self.done = {"real": 0, "drawn": 0}
        self._holders: dict[int, int] = {}
        self._datasets: dict[int, int] = {}
        self._renewed: dict[int, float] = {}

    def do(self, call: Call, now: float) -> tuple[Answer, Cost]:
        claim = _claim_of(call)
        if claim is not None and self._is_drawn(call, claim, now):
            self.done["drawn"] += 1
            return self.drawn.do(call, now)
        self.done["real"] += 1
        answer, cost = self.real.do(call, now)
        if call.kind == CLAIM and answer.status in (200, 201):
            claim, dataset = answer.body["claim"], answer.body["dataset"]["id"]
            self._holders[dataset], self._datasets[claim], self._renewed[claim] = claim, dataset, now
        elif claim is not None and call.kind == HEARTBEAT:
            self._renewed[claim] = now
        return answer, cost

    def _is_drawn(self, call: Call, claim: int, now: float) -> bool:
        if self._holders[self._datasets[claim]] != claim:
            return False
        if call.kind == HEARTBEAT:
            return now - self._renewed[claim] < RENEWAL_S
        return not call.commits and not call.fails


def _claim_of(call: Call) -> int | None:
    """The claim that a heartbeat or a status is of."""
    if call.kind == HEARTBEAT:
        return int(call.path.split("/")[1])
    return int(call.body["claim"]) if call.kind == STATUS else None
