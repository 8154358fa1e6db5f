"""What is simulated: how many, for how long, what takes how long, and what goes wrong when."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass

from crunch_tasks.contract import Stage

STORAGE_PATIENCE_S = 60.0
"""A stage fails so many seconds after its storage has gone away (docs/operations.md, "Clients")."""

LASTS_S = {Stage.SETUP: (60.0, 0.8), Stage.WORKFLOW: (300.0, 0.6), Stage.UPLOAD: (30.0, 0.8)}
"""What each stage takes: the median in seconds, and the spread, of a log-normal distribution."""


@dataclass(frozen=True)
class Outage:
    """From the second `begins` until the second `ends`, not included."""

    begins: float
    ends: float


NEVER = Outage(math.inf, math.inf)


@dataclass(frozen=True)
class Plan:
    """`clients` start within the first `start_s` seconds. Times are in seconds of the simulation."""

    seed: int
    clients: int
    seconds: float = math.inf
    """When it ends, if the work does not end before."""
    start_s: float = 1.0
    dies_each_s: float = math.inf
    """A client is killed once in so many seconds, on average."""
    away_s: float = 120.0
    """How long a killed client is away. Half of them come back with their disk, the others as new machines."""
    fails: float = 0.0
    """The share of workflows that fail."""
    server_outage: Outage = NEVER
    storage_outage: Outage = NEVER
    retry_each_s: float = 1800.0
    """How often a person makes failed datasets unprocessed."""
    speed: float = 1.0
    """Stages take their time divided by this."""

    @property
    def run_s(self) -> float:
        """How long a run takes on average, without a mishap."""
        return sum(median_s * math.exp(spread**2 / 2) for median_s, spread in LASTS_S.values()) / self.speed

    def lasts_s(self, stage: Stage, chance: random.Random) -> float:
        median_s, spread = LASTS_S[stage]
        return chance.lognormvariate(math.log(median_s), spread) / self.speed

    def fails_after_s(self, stage: Stage, now: float, seconds: float) -> float | None:
        """When a stage fails that begins now and would take so many seconds; None when the storage does not fail it."""
        away = self.storage_outage
        fails = max(now, away.begins) + STORAGE_PATIENCE_S
        meets = stage != Stage.WORKFLOW and now < away.ends and now + seconds > away.begins
        return fails - now if meets and fails < away.ends else None
