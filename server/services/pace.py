"""How fast a project's datasets are completed, and how long the rest will take, where that can be known."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence

from django.utils import timezone

from crunch_tasks.contract import DatasetState
from server.models import Project

FEW = 5
"""From fewer completed datasets no pace can be told."""

PACE_OF = 200
"""So many of the newest completed datasets tell the pace."""

_WINDOWS = (dt.timedelta(days=1), dt.timedelta(days=30))


def of(project: Project) -> float | None:
    """How many of the project's datasets are completed in a second, or None; in one query."""
    done = project.datasets.completed().order_by("-updated", "-pk").values_list("updated", flat=True)
    return per_second(list(done[:PACE_OF]), timezone.now())


def per_second(newest: Sequence[dt.datetime], now: dt.datetime) -> float | None:
    """The pace by the times at which the PACE_OF newest ones were completed, the newest first.

    Those of the last day count, or, in a project of long runs, of the last month.
    """
    for window in _WINDOWS:
        recent = [time for time in newest if now - time <= window]
        if len(recent) >= FEW:
            return len(recent) / max((now - recent[-1]).total_seconds(), 1)
    return None


def seconds_left(by_state: Mapping[str, int], pace: float | None) -> float | None:
    """How long the datasets that are not done will take at this pace; None while nobody works on them."""
    running = by_state.get(DatasetState.RUNNING.value, 0)
    left = running + by_state.get(DatasetState.UNPROCESSED.value, 0)
    if not left:
        return 0.0
    return left / pace if pace and running else None
