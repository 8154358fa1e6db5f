"""Whether a run ends in the time that a client has left, by how long the last runs of the project took.

What a run takes is the project's affair alone: the server does not know how large a dataset is before Setup.
The client, which does then, looks once more (`crunch_tasks.forecast`).
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence

from django.utils import timezone

from crunch_tasks.contract import LEAST_SECONDS
from server.models import Claim, PastRun

LAST = 20
"""So many of a project's last completed runs are looked at."""

ENOUGH = 10
"""With fewer past runs than these, a run is expected to take twice as long as the longest of them."""

HIGH = 0.9
"""Of many runs, so large a part took no longer than is expected of the next."""

TRIM_EACH = 101
"""After so many completed runs old ones of the project are removed. A prime number: all projects get their turn."""


def expected_s(past: Sequence[float]) -> float:
    """How many seconds a run may take after runs of `past` seconds."""
    if not past:
        return LEAST_SECONDS
    if len(past) < ENOUGH:
        return 2 * max(past)
    return sorted(past)[math.ceil(HIGH * len(past)) - 1]


def too_long(projects: Collection[int], seconds: float | None) -> dict[int, float]:
    """Those of these projects (ids) whose runs may take longer than `seconds`, and how long. None of them if None."""
    if seconds is None:
        return {}
    past = _last(projects)
    expected = {project: expected_s(past[project][-LAST:]) for project in projects}
    return {project: needed for project, needed in expected.items() if needed > seconds}


def note(project: int, claim: Claim) -> None:
    """The run of this claim is completed."""
    made = PastRun.objects.create(project_id=project, seconds=(timezone.now() - claim.created).total_seconds())
    if made.pk % TRIM_EACH == 0:
        kept = PastRun.objects.filter(project=project).order_by("-pk").values_list("pk", flat=True)[:LAST]
        PastRun.objects.filter(project=project, pk__lt=min(kept)).delete()


def _last(projects: Iterable[int]) -> dict[int, list[float]]:
    found = defaultdict[int, list[float]](list)
    rows = PastRun.objects.filter(project__in=projects).order_by("pk").values_list("project", "seconds")
    for project, seconds in rows:
        found[project].append(seconds)
    return found
