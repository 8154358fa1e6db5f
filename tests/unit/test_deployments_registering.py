"""What registering deployments again changes of them, and what it leaves."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from deployments.__main__ import app
from deployments.registering import Wanted, limit_for, tags_for
from flows.cli import end_well

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


def test_what_is_asked_for_a_project_is_not_asked_of_the_deployment_that_all_share() -> None:
    of_all = Wanted("gpu", "birds", limit=2, tags=["day"]).of_all_projects()
    assert (of_all.name("run"), limit_for(of_all, THERE, None), tags_for(of_all, THERE)) == (
        "run-gpu",
        3,
        ["crunch", "night"],
    )
    for_all = Wanted("gpu", limit=2, tags=["day"]).of_all_projects()
    assert (limit_for(for_all, THERE, None), tags_for(for_all, THERE)) == (2, ["crunch", "day"])


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("pools --name a/b", "--name: 'a/b' is no name."),
        ("pools --name=", "--name: '' is no name."),
        ("pools --name=..", "--name: '..' is no name."),
        ("deploy --pool a/b", "--pool: 'a/b' is no name."),
        ("deploy --project Nope/Odd", "--project: 'Nope/Odd' is no name."),
        ("deploy --every 99999999999d", "--every: '99999999999d' is no time up to 366d."),
        ("deploy --every 367d", "--every: '367d' is no time up to 366d."),
        ("retention --days 1e9", "--days: 1e+09 is no number from 0 to 36500."),
        ("retention --days nan", "--days: nan is no number from 0 to 36500."),
        ("retention --days=-1", "--days: -1 is no number from 0 to 36500."),
    ],
)
def test_wrong_words_end_with_a_sentence(words: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        end_well(app, words.split(), "deployments")
    shown = capsys.readouterr()
    assert (ended.value.code, shown.out) == (2, "")
    assert shown.err.startswith(f"crunch: {said}")
