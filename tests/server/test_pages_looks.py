"""How things look, apart from any page: stages of a run, counts, values, times."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from typing import Any

import pytest

from server.models import Attribute, Dataset, Status
from server.pages.looks import Counts, attempt_number, duration, safe_link, shown, timeline
from server.pages.markdown import render
from server.services.running import progress

NOON = dt.datetime(2026, 5, 3, 12, tzinfo=dt.UTC)


def status(stage: int, state: int, minute: int, **values: Any) -> Status:
    created = NOON + dt.timedelta(minutes=minute)
    return Status(**{"claim_id": 1, "fence": 1, "stage": stage, "state": state, "created": created, **values})


def keys(dataset: Dataset, *oldest_first: Status) -> list[str]:
    return [stage.key for stage in timeline(dataset, reversed(oldest_first))]


def dataset(state: str, **values: Any) -> Dataset:
    return Dataset(**{"state": state, "lease_expires": dt.datetime(2999, 1, 1, tzinfo=dt.UTC), "fence": 1, **values})


GOOD = [status(1, 1, 0), status(1, 2, 1), status(2, 1, 2), status(2, 2, 3), status(3, 1, 4), status(3, 2, 5)]


def test_stages_of_a_good_run() -> None:
    assert keys(dataset("completed"), *GOOD) == ["completed"] * 3
    assert [stage.seconds for stage in timeline(dataset("completed"), reversed(GOOD))] == [60, 60, 60]


def test_stages_of_a_run_that_goes_on() -> None:
    assert keys(dataset("running"), *GOOD[:3]) == ["completed", "running", "unprocessed"]
    assert keys(dataset("running", lease_expires=NOON - dt.timedelta(days=999)), *GOOD[:3])[1] == "expired"


def test_a_new_run_does_not_show_the_stages_of_the_one_before() -> None:
    assert keys(dataset("running", fence=3), *GOOD[:3]) == ["unprocessed"] * 3
    assert keys(dataset("unprocessed", fence=2), *GOOD) == ["unprocessed"] * 3


def test_the_servers_own_fail_belongs_to_the_run_that_was_lost() -> None:
    ended = dataset("failed", fence=2)
    assert keys(ended, *GOOD[:3], status(2, 3, 9, fence=2)) == ["completed", "failed", "unprocessed"]
    # A run that was lost before its first word shows nothing of an earlier one.
    assert keys(ended, *GOOD, status(1, 3, 9, claim_id=2, fence=2)) == ["failed", "unprocessed", "unprocessed"]


def test_a_bar_is_100_wide() -> None:
    segments = Counts({"completed": 1, "failed": 1, "unprocessed": 1}).segments
    assert sum(float(segment.width) for segment in segments) == pytest.approx(100, abs=0.01)
    assert [segment.state for segment in segments] == ["completed", "failed", "running", "unprocessed"]
    assert Counts({}).segments[0].width == "0.000"


def test_two_among_ten_thousand_are_seen_in_the_bar() -> None:
    completed, failed, running, _ = Counts({"completed": 9998, "failed": 2}).segments
    assert float(failed.width) >= 1.5 and running.width == "0.000"
    assert float(completed.width) + float(failed.width) == pytest.approx(100, abs=0.01)


@pytest.mark.parametrize(
    ("state", "lost", "number"),
    [("unprocessed", 0, None), ("running", 0, 1), ("running", 1, 2), ("failed", 3, 3), ("completed", 2, 3)],
)
def test_attempts_count_from_one(state: str, lost: int, number: int | None) -> None:
    assert attempt_number(dataset(state, attempt=lost), 3) == number


@pytest.mark.parametrize(
    ("kind", "columns", "text", "href"),
    [
        ("char", {"text": " a <b> "}, " a <b> ", ""),
        ("filesize", {"integer": 1536}, "1.5\xa0KB", ""),
        ("int", {"integer": 2019}, "2019", ""),
        ("float", {"number": 0.1}, "0.1", ""),
        ("bool", {"boolean": False}, "no", ""),
        ("date", {"date": dt.date(2026, 5, 3)}, "3 May 2026", ""),
        ("url", {"text": "https://a.example/x"}, "https://a.example/x", "https://a.example/x"),
        ("url", {"text": "javascript:alert(1)"}, "javascript:alert(1)", ""),
        ("int", {}, "not set", ""),
    ],
)
def test_values_by_kind(kind: str, columns: dict[str, Any], text: str, href: str) -> None:
    value = shown(Attribute(kind=kind, key="k", **columns))
    assert (value.text, value.href) == (text, href)


def test_a_place() -> None:
    value = shown(Attribute(kind="lat-long", latitude=Decimal("-64.7667"), longitude=Decimal("8.5")))
    assert value.text == "64.76670° S, 8.50000° E"
    assert "mlat=-64.766700&mlon=8.500000" in value.href


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.42, "0.4 s"), (59.7, "1 min"), (185, "3 min 5 s"), (7200, "2 h"), (7800, "2 h 10 min"), (273600, "3 d 4 h")],
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.parametrize(
    "address", ["javascript:x", "JAVASCRIPT://a.example/%0aalert(1)", "http:", "//a.example", "http://[x", ""]
)
def test_unsafe_addresses_are_no_links(address: str) -> None:
    assert safe_link(address) == ""


@pytest.mark.parametrize("told", [None, 3, "x", [], {}, {"done": None, "total": 3}, {"done": 1, "total": 0}])
def test_progress_may_be_anything(told: Any) -> None:
    assert progress(told) is None


def test_markdown_keeps_structure_and_drops_what_is_live() -> None:
    html = render("# T\n\n| a | b |\n|---|---|\n| 1 | **2** |\n\n<b onclick=x>raw</b> [l](https://a.example)")
    assert "<h1>T</h1>" in html and "<strong>2</strong>" in html and "<table>" in html
    assert "&lt;b onclick" in html
    assert 'rel="noopener noreferrer nofollow"' in html
