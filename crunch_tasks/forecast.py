"""How long a dataset of so many bytes takes a client, by its own past runs of the project. Pure.

The server, which learns how large a dataset is only after Setup, looks at seconds alone before it gives a claim, and
what it says stands: this can only refuse more. The rule is that of the nearest neighbours, each guess a median, so that
one odd run says nothing; time in proportion to bytes is assumed only where a dataset is larger than what was seen.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import median
from typing import NamedTuple

LAST = 50
"""So many of a project's last good runs are remembered."""

ENOUGH = 3
"""Fewer past runs than these say nothing."""

NEAREST = 5
"""So many of them, those nearest in size, tell of a dataset."""

LEAST_BYTES = 100_000
"""What is smaller counts as so large: how long a workflow runs on a few parameters is not told by their bytes."""


class PastRun(NamedTuple):
    """A good run: the bytes of its inputs, and the seconds from claim to commit."""

    bytes: int
    seconds: float


def expected_s(size: int, past: Sequence[PastRun]) -> float:
    """How many seconds a dataset of `size` bytes may take after these runs; 0 where they are too few to say.

    As long as those nearest in size, and as many times longer as it is larger than they are; never shorter.
    """
    if len(past) < ENOUGH:
        return 0.0
    nearest = sorted(past, key=lambda run: abs(math.log(_counted(size) / _counted(run.bytes))))[:NEAREST]
    larger = _counted(size) / median(_counted(run.bytes) for run in nearest)
    return median(run.seconds for run in nearest) * max(1.0, larger)


def _counted(size: int) -> int:
    return max(size, LEAST_BYTES)
