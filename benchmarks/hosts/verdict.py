"""What the servers tell of the run at its end: what is wrong with it, and who did how much."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from statistics import median
from typing import Any

from crunch_tasks.contract import DatasetState, Stage, State
from tests.support.site import GOOD_RUN

Row = Mapping[str, Any]
"""A status as the server's API gives it."""


@dataclass(frozen=True)
class Story:
    """What became of a dataset: its state and its statuses, oldest first."""

    slug: str
    state: str
    rows: Sequence[Row]

    @property
    def last_run(self) -> list[Row]:
        """The effective statuses of the newest fence."""
        fence = max((row["fence"] or 0 for row in self.rows), default=0)
        return [row for row in self.rows if row["effective"] and row["fence"] == fence]

    @property
    def successes(self) -> int:
        ends = [row for row in self.rows if (row["stage"], row["state"]) == (Stage.UPLOAD, State.SUCCESS)]
        return sum(row["effective"] for row in ends)

    @property
    def takeovers(self) -> int:
        """Runs of other clients before the last one that got as far as a status."""
        return len({row["fence"] for row in self.rows}) - 1

    @property
    def seconds(self) -> float:
        """From Setup's Start to Upload's Success, as the server heard of them."""
        first, last = (datetime.fromisoformat(self.last_run[at]["created"]) for at in (0, -1))
        return (last - first).total_seconds()

    def problems(self) -> list[str]:
        """Why this is no dataset that was processed to its end, and once."""
        if self.state != DatasetState.COMPLETED:
            return [f"{self.slug} is {self.state}"]
        if self.successes != 1:
            return [f"{self.slug} was completed {self.successes} times"]
        walk = [(row["stage"], row["state"]) for row in self.last_run]
        return [] if walk == GOOD_RUN else [f"the last run of {self.slug} was {walk}"]


@dataclass
class Share:
    """What a host did."""

    seconds: list[float] = field(default_factory=list)
    takeovers: int = 0
    lost: int = 0


def table(stories: Iterable[Story]) -> str:
    """The shares of the hosts in the datasets with which nothing is wrong."""
    shares: defaultdict[str, Share] = defaultdict(Share)
    for story in (one for one in stories if not one.problems()):
        share = shares[story.last_run[-1]["hostname"]]
        share.seconds.append(story.seconds)
        share.takeovers += story.takeovers > 0
        last = story.last_run[-1]["fence"]
        for host in {(row["hostname"], row["fence"]) for row in story.rows if row["fence"] != last}:
            shares[host[0]].lost += 1
    lines = ["| host | datasets | seconds each, median | most | taken over from others | lost to others |"]
    lines += ["|---|---:|---:|---:|---:|---:|"]
    for name, share in sorted(shares.items()):
        middle, most = (f"{figure:.1f}" if share.seconds else "" for figure in _figures(share.seconds))
        lines.append(f"| {name} | {len(share.seconds)} | {middle} | {most} | {share.takeovers} | {share.lost} |")
    return "\n".join(lines)


def _figures(seconds: Sequence[float]) -> tuple[float, float]:
    return (median(seconds), max(seconds)) if seconds else (0.0, 0.0)


def flow_runs(runs: Iterable[Mapping[str, Any]]) -> str:
    """How Prefect's flow runs ended."""
    ends = Counter(run["state"]["name"] for run in runs)
    return ", ".join(f"{count} {name}" for name, count in ends.most_common())
