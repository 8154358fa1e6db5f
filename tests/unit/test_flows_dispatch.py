"""Which datasets a dispatch schedules."""

from __future__ import annotations

import pytest

from flows.dispatch import choose


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
