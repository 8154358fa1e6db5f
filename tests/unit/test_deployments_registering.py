"""What registering deployments again changes of them, and what it leaves."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from deployments.registering import Wanted, limit_for, tags_for

THERE: Any = SimpleNamespace(tags=["crunch", "night"], global_concurrency_limit=SimpleNamespace(limit=3))
UNLIMITED: Any = SimpleNamespace(tags=["crunch"], global_concurrency_limit=None)


def test_a_limit_stays_unless_another_one_is_asked_for() -> None:
    assert limit_for(Wanted(), None, 4) == 4
    assert limit_for(Wanted(), None, None) is None
    assert limit_for(Wanted(limit=2), None, 4) == 2
    assert limit_for(Wanted(), THERE, 4) == 3
    assert limit_for(Wanted(limit=2), THERE, 4) == 2
    # Somebody took it away in Prefect's pages.
    assert limit_for(Wanted(), UNLIMITED, 4) is None


def test_tags_stay_unless_others_are_asked_for() -> None:
    assert tags_for(Wanted(), None) == ["crunch"]
    assert tags_for(Wanted(tags=["day"]), None) == ["crunch", "day"]
    assert tags_for(Wanted(), THERE) == ["crunch", "night"]
    assert tags_for(Wanted(tags=["day"]), THERE) == ["crunch", "day"]
