"""What `make hosts` takes for wrong: a dataset that is not completed, or completed by two runs, or by half a run."""

from __future__ import annotations

from typing import Any

import pytest

from benchmarks.hosts.verdict import Story, table
from tests.support.site import GOOD_RUN


def run(fence: int, host: str, *, effective: bool = True, steps: int = 6) -> list[dict[str, Any]]:
    """The statuses of a run of which the server took `effective` ones, a second each."""
    return [
        {
            "stage": stage,
            "state": state,
            "fence": fence,
            "hostname": host,
            "effective": effective,
            "created": f"2026-01-01T00:00:{10 * fence + second:02}Z",
        }
        for second, (stage, state) in enumerate(GOOD_RUN[:steps])
    ]


@pytest.mark.parametrize(
    ("state", "rows", "problem"),
    [
        ("completed", run(1, "a"), ""),
        ("completed", run(1, "a", steps=3) + run(2, "b"), ""),
        ("completed", run(2, "b") + run(1, "a", effective=False), ""),
        ("running", run(1, "a", steps=3), "is running"),
        ("completed", run(1, "a") + run(2, "b"), "completed 2 times"),
        ("completed", run(1, "a")[1:], "the last run"),
        ("completed", [], "completed 0 times"),
    ],
)
def test_what_is_wrong(state: str, rows: list[dict[str, Any]], problem: str) -> None:
    problems = Story("p:d", state, rows).problems()
    assert len(problems) == (1 if problem else 0)
    assert problem in "".join(problems)


def test_the_table_says_who_lost_to_whom() -> None:
    said = table(
        [Story("p:d", "completed", run(1, "a", steps=3) + run(2, "b")), Story("p:e", "completed", run(1, "b"))]
    )
    assert said.splitlines()[2:] == ["| a | 0 |  |  | 0 | 1 |", "| b | 2 | 5.0 | 5.0 | 1 | 0 |"]
