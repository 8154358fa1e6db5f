"""The grid of a project's page: stages, filters, search, orders, and pages forward and back."""

from __future__ import annotations

import datetime as dt
import re
from html import unescape
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.utils import timezone

from crunch_tasks.contract import ClaimRequest, Stage, State
from server.models import Dataset, Project
from server.pages import grid
from server.pages.looks import Counts, cells, pace
from server.services import catalogue, claims, statuses
from server.services.pace import per_second
from server.services.selection import Selection
from server.services.statuses import Event

START, SUCCESS, FAIL = State.START, State.SUCCESS, State.FAIL
PAGE = "/projects/birds/"
NOON = dt.datetime(2026, 5, 3, 12, tzinfo=dt.UTC)


def report(user: User, dataset: Dataset, *steps: tuple[Stage, State], note: str = "") -> None:
    """As an old client, without a claim."""
    for stage, state in steps:
        statuses.record(user, Event(dataset.pk, stage, state, note=note))


def names(response: Any) -> list[str]:
    """The datasets that the grid shows, by slug, in its order."""
    return re.findall(r"<small>birds:([^<]*)</small>", response.content.decode())


def link(response: Any, rel: str) -> str:
    """The address of the neighbouring page, or nothing."""
    found = re.search(rf'rel="{rel}" href="([^"#]*)', response.content.decode())
    return unescape(found[1]) if found else ""


def words_of_row(response: Any, slug: str) -> str:
    (row,) = [row for row in re.findall(r"<tr>.*?</tr>", response.content.decode(), re.DOTALL) if f":{slug}<" in row]
    return re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", row))


# --- what a row says -------------------------------------------------------------------------------------------------


def test_each_stage_has_a_word_beside_its_sign(browser: Client, alice: User, project: Project) -> None:
    waiting, going, failed, done = (catalogue.create_dataset(project, name=name) for name in "abcd")
    claim = claims.claim(alice, ClaimRequest("r1", dataset=going.slug))
    assert claim is not None
    for number, (stage, state) in enumerate([(Stage.SETUP, START), (Stage.SETUP, SUCCESS), (Stage.WORKFLOW, START)]):
        statuses.record(alice, Event(going.pk, stage, state, claim=claim[0].pk, fence=1, event_id=f"e{number}"))
    claims.heartbeat(alice, claim[0], 1, {"done": 3, "total": 7})
    report(alice, failed, (Stage.SETUP, START), (Stage.SETUP, FAIL))
    report(alice, done, (Stage.SETUP, START), (Stage.UPLOAD, SUCCESS))
    page = browser.get(PAGE)
    stages = r"Setup {} Workflow {} Upload {}"
    assert stages.format("not reached", "not reached", "not reached") in words_of_row(page, "a")
    assert stages.format("done", "running", "not reached") in words_of_row(page, "b")
    assert "3 of 7" in words_of_row(page, "b")
    assert stages.format("failed", "not reached", "not reached") in words_of_row(page, "c")
    assert stages.format("done", "done", "done") in words_of_row(page, "d")
    Dataset.objects.filter(pk=going.pk).update(lease_expires=timezone.now() - dt.timedelta(minutes=1))
    assert stages.format("done", "lease expired", "not reached") in words_of_row(browser.get(PAGE), "b")
    assert waiting.stage is None


def test_a_stage_that_ended_well_is_done_before_the_next_one_starts() -> None:
    between = Dataset(state="running", stage=Stage.WORKFLOW, stage_state=SUCCESS)
    assert [cell.key for cell in cells(between)] == ["completed", "completed", "unprocessed"]


# --- filters, search, orders, pages ----------------------------------------------------------------------------------


@pytest.fixture
def many(project: Project, monkeypatch: pytest.MonkeyPatch) -> Project:
    """Datasets d00 to d10 and x, in the order of their names; the last changed are the even ones."""
    monkeypatch.setattr(grid, "ROWS", 4)
    for name in [f"d{number:02}" for number in range(11)] + ["x"]:
        catalogue.create_dataset(project, name=name)
    for dataset in Dataset.objects.filter(name__in=["d00", "d02", "d04"]):
        Dataset.objects.filter(pk=dataset.pk).update(state="failed", updated=timezone.now())
    return project


def test_filter_and_search(browser: Client, many: Project) -> None:
    assert names(browser.get(PAGE)) == ["d00", "d01", "d02", "d03"]
    assert names(browser.get(f"{PAGE}?state=failed")) == ["d00", "d02", "d04"]
    assert names(browser.get(f"{PAGE}?q=D1")) == ["d10"]
    assert names(browser.get(f"{PAGE}?q=birds:d1&state=failed")) == []
    for none in ("dd", "%25", "_", "!!"):
        assert names(browser.get(f"{PAGE}?q={none}")) == []
    assert (
        "No failed dataset has a name that begins with “d1”"
        in browser.get(f"{PAGE}?q=d1&state=failed").content.decode()
    )


def test_the_last_changed_come_first_when_asked_for(browser: Client, many: Project) -> None:
    assert names(browser.get(f"{PAGE}?sort=updated"))[:3] == ["d04", "d02", "d00"]
    assert names(browser.get(f"{PAGE}?sort=updated&state=failed")) == ["d04", "d02", "d00"]


def test_the_longest_unchanged_come_first_when_asked_for(browser: Client, many: Project) -> None:
    assert names(browser.get(f"{PAGE}?sort=unchanged")) == ["d01", "d03", "d05", "d06"]
    assert names(browser.get(f"{PAGE}?sort=unchanged&state=failed")) == ["d00", "d02", "d04"]
    for nonsense in ("sort=name2", "sort=unchanged&after=%00", "sort=unchanged&before=1"):
        assert browser.get(f"{PAGE}?{nonsense}").status_code == 200


@pytest.mark.parametrize(
    ("query", "count"),
    [
        ("", 12),
        ("sort=updated", 12),
        ("sort=unchanged", 12),
        ("state=unprocessed", 9),
        ("sort=updated&state=unprocessed", 9),
        ("sort=unchanged&state=unprocessed", 9),
        ("q=d", 11),
    ],
)
@pytest.mark.parametrize("together", [False, True], ids=["apart", "at one time"])
def test_pages_forward_and_back(browser: Client, many: Project, query: str, count: int, together: bool) -> None:
    if together:
        Dataset.objects.update(updated=NOON)
    walk(browser, query, count)


def walk(browser: Client, query: str, count: int) -> None:
    """From the first page to the last and back: every dataset once each way, and the same pages."""
    page = browser.get(f"{PAGE}?{query}")
    seen = [names(page)]
    assert link(page, "prev") == ""
    while following := link(page, "next"):
        page = browser.get(PAGE + following)
        seen.append(names(page))
    whole = [name for part in seen for name in part]
    assert len(whole) == len(set(whole)) == count
    back = [names(page)]
    while previous := link(page, "prev"):
        page = browser.get(PAGE + previous)
        back.insert(0, names(page))
    assert back == seen


def test_a_page_whose_rows_are_gone_leads_back(browser: Client, many: Project) -> None:
    page = browser.get(f"{PAGE}?after=x")
    assert names(page) == []
    assert "Back to the first ones" in page.content.decode()


@pytest.mark.slow
def test_every_database_has_the_same_order(database: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grid, "ROWS", 2)
    project = catalogue.create_project(name="Birds")
    for name in ("a b", "a", "ab", "a_c", "a 1", "Ä z", "группа"):
        catalogue.create_dataset(project, name=name)
    Dataset.objects.update(updated=NOON)

    def walked(text: str, sort: str) -> list[str]:
        query: dict[str, str] = {"q": text, "sort": sort}
        seen = []
        while True:
            chosen = grid.selection(project, query)
            page = grid.page(chosen, grid.order(chosen, query), query)
            seen += [row.dataset.key for row in page.rows]
            if not page.after:
                return seen
            query["after"] = page.after

    assert walked("", "name") == ["a", "a-1", "a-b", "a-z", "a_c", "ab", "группа"]
    assert walked("a ", "name") == walked("a", "updated") == ["a", "a-1", "a-b", "a-z", "a_c", "ab"]
    assert walked("a-", "name") == walked("a", "name")
    for sort in ("updated", "unchanged"):
        assert len(walked("", sort)) == len(set(walked("", sort))) == 7
    assert Selection(project, text="a b").rows().count() == 1


# --- pace ------------------------------------------------------------------------------------------------------------


def times(count: int, each: dt.timedelta) -> list[dt.datetime]:
    return [NOON - number * each for number in range(1, count + 1)]


HOUR, MINUTE = dt.timedelta(hours=1), dt.timedelta(minutes=1)


@pytest.mark.parametrize(
    ("states", "done", "expected"),
    [
        ({"running": 2, "unprocessed": 124}, times(200, MINUTE * 60 / 42), "About 3 h left at 42 per hour"),
        ({"running": 1, "unprocessed": 9}, times(200, MINUTE / 10), "About a minute left at 600 per hour"),
        ({"running": 1, "unprocessed": 89}, times(10, 8 * HOUR), "About 30 days left at 3 per day"),
        ({"running": 1}, times(5, MINUTE), "About a minute left at 60 per hour"),
        ({"unprocessed": 9}, times(5, MINUTE), "Nothing is running; lately 60 per hour"),
        ({"running": 1, "unprocessed": 9}, times(4, MINUTE), ""),
        ({"running": 1, "unprocessed": 9}, times(200, 40 * 24 * HOUR), ""),
        ({"completed": 200}, times(200, MINUTE), ""),
        ({}, [], ""),
    ],
)
def test_time_remaining_only_where_it_can_be_known(
    states: dict[str, int], done: list[dt.datetime], expected: str
) -> None:
    assert pace(Counts(states), per_second(done, NOON)) == expected


def test_the_pace_is_that_of_the_last_day_after_a_long_pause() -> None:
    before_the_pause = [time - dt.timedelta(days=20) for time in times(100, MINUTE)]
    counts = Counts({"running": 1, "unprocessed": 59})
    assert pace(counts, per_second(times(60, MINUTE) + before_the_pause, NOON)) == "About 60 min left at 60 per hour"


def test_the_page_tells_the_pace(browser: Client, alice: User, project: Project) -> None:
    for name in "abcdefg":
        dataset = catalogue.create_dataset(project, name=name)
        report(alice, dataset, (Stage.SETUP, START), *([(Stage.UPLOAD, SUCCESS)] if name != "g" else []))
    Dataset.objects.filter(state="completed").update(updated=timezone.now() - HOUR)
    assert "About 10 min left at 6 per hour" in browser.get(PAGE).content.decode()
