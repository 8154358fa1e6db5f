"""A map of more places than come at once: all get there, also after trouble, and none goes away meanwhile."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from playwright.sync_api import Locator, Page, Route, expect

from tests.support.browsing import no_sideways_scrolling, not_loaded_again, opened, passes, report
from tests.support.servers import CrunchServer, crunch_server

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("browser")]
desktop = pytest.mark.parametrize("page", ["desktop"], indirect=True)

COUNT = 2300
MAP = "/projects/birds/map"
FURTHER = "**/map/places?*"


def place(number: int) -> dict[str, float]:
    """The first and the last are alone, far from the others and from each other."""
    alone = {0: (20, -30), COUNT - 1: (-40, -100)}
    latitude, longitude = alone.get(number, (40 + number % 30, number % 60))
    return {"latitude": latitude, "longitude": longitude}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CrunchServer]:
    with crunch_server(tmp_path_factory.mktemp("map"), users=("alice",)) as running:
        with running.client() as api:
            api.post("/api/projects/", json={"name": "Birds", "workflow": "#!/bin/bash\n"}).raise_for_status()
            rows = [
                {"name": f"d{number}", "attributes": [{"key": "origin", **place(number)}]} for number in range(COUNT)
            ]
            api.post("/api/projects/birds/datasets/bulk/", json={"datasets": rows}).raise_for_status()
        yield running


@pytest.fixture
def first_and_last(api: httpx.Client) -> Iterator[list[dict[str, Any]]]:
    """Two datasets, which wait again when the test is over."""
    found = [api.get(f"/api/datasets/birds:d{number}/").raise_for_status().json() for number in (0, COUNT - 1)]
    yield found
    for dataset in found:
        api.post(f"/api/datasets/{dataset['slug']}/reset/", json={}).raise_for_status()


def lead(page: Page) -> Locator:
    return page.locator("#live-lead .lead")


def on_map(page: Page) -> int:
    """How many places the marks stand for."""
    return sum(int(text.replace(",", "") or 1) for text in page.locator("#map .place").all_inner_texts())


def sees_the_last(page: Page) -> bool:
    return bool(page.evaluate("map.getBounds().contains([-40, -100])"))


def hold(page: Page) -> Callable[[], None]:
    """What is asked for of further places comes when one calls what is returned."""
    held: list[Route] = []
    is_held = True

    def asked(route: Route) -> None:
        if is_held:
            held.append(route)
        else:
            route.continue_()

    def release() -> None:
        nonlocal is_held
        is_held = False
        for route in held:
            route.continue_()

    page.route(FURTHER, asked)
    return release


def test_all_places_get_onto_the_map_and_into_the_view(page: Page) -> None:
    page.goto(MAP)
    expect(lead(page)).to_have_text("2,300 places of this project's datasets.")
    assert on_map(page) == COUNT
    assert sees_the_last(page)
    no_sideways_scrolling(page)
    page.get_by_text("The places as a table").click()
    page.get_by_role("link", name="Next").click()
    expect(page.locator("#places")).to_contain_text("d99")
    expect(lead(page)).to_have_text("2,300 places of this project's datasets.")


@desktop
def test_nothing_goes_away_while_the_places_are_read_anew(
    page: Page, api: httpx.Client, first_and_last: list[dict[str, Any]]
) -> None:
    first, last = first_and_last
    running = page.locator("#map .place .sign.running")
    release = hold(page)
    with page.expect_request(FURTHER):
        opened(page, MAP)
    expect(lead(page)).to_have_text("1,000 places of this project's datasets are shown, and more are being read.")
    assert on_map(page) == 1000
    # What is news while they are read is shown after that; the table has it at once.
    report(api, first, 1, 1)
    passes(page)
    expect(page.locator("#places .state.running")).to_have_count(1)
    expect(running).to_have_count(0)
    release()
    expect(running).to_have_count(1)
    expect(lead(page)).to_have_text("2,300 places of this project's datasets.")
    assert on_map(page) == COUNT
    # The news is of the last one alone, which is not among those in the page.
    release = hold(page)
    report(api, last, 1, 1)
    with page.expect_request(FURTHER):
        passes(page, 30)
    expect(running).to_have_count(1)
    assert on_map(page) == COUNT
    expect(lead(page)).to_have_text("2,300 places of this project's datasets.")
    release()
    expect(running).to_have_count(2)
    assert on_map(page) == COUNT
    assert not_loaded_again(page)


@desktop
def test_a_view_that_somebody_chose_stays_while_more_places_come(page: Page) -> None:
    release = hold(page)
    with page.expect_request(FURTHER):
        page.goto(MAP)
    assert not sees_the_last(page)
    page.locator("#map").press("ArrowLeft")
    release()
    expect(lead(page)).to_have_text("2,300 places of this project's datasets.")
    assert not sees_the_last(page)


def refuse(page: Page, status: int, **headers: str) -> list[str]:
    """Further places are refused; returns the addresses that are asked for."""
    asked: list[str] = []

    def refused(route: Route) -> None:
        asked.append(route.request.url)
        route.fulfill(status=status, headers={name.replace("_", "-"): value for name, value in headers.items()})

    page.unroute(FURTHER)
    page.route(FURTHER, refused)
    return asked


def trouble(count: str, why: str) -> str:
    return f"{count} places of this project's datasets are shown. They may not be all, or not as they are now: {why}"


def asked_again(problem: str) -> str:
    return f"{problem}, and is asked again by itself. The table below leads to all."


def later(page: Page, seconds: int) -> None:
    page.clock.run_for(seconds * 1000)


def test_further_places_that_cannot_be_read_are_asked_for_again_less_and_less_often(unwatched: Page) -> None:
    refuse(unwatched, 503)
    opened(unwatched, MAP)
    expect(lead(unwatched)).to_have_text(trouble("1,000", asked_again("the server answers 503")))
    assert on_map(unwatched) == 1000
    asked = refuse(unwatched, 502)
    later(unwatched, 6)
    expect(lead(unwatched)).to_have_text(trouble("1,000", asked_again("the server answers 502")))
    # The second pause is longer.
    later(unwatched, 6)
    assert len(asked) == 1
    unwatched.unroute(FURTHER)
    unwatched.route(FURTHER, lambda route: route.abort())
    later(unwatched, 6)
    expect(lead(unwatched)).to_have_text(trouble("1,000", asked_again("the server does not answer")))
    unwatched.unroute(FURTHER)
    later(unwatched, 21)
    expect(lead(unwatched)).to_have_text("2,300 places of this project's datasets.")
    assert on_map(unwatched) == COUNT
    assert not_loaded_again(unwatched)


def test_a_server_that_says_when_to_ask_again_is_not_asked_before(unwatched: Page) -> None:
    asked = refuse(unwatched, 503, Retry_After="90")
    opened(unwatched, MAP)
    expect(lead(unwatched)).to_contain_text("is asked again by itself")
    later(unwatched, 80)
    assert len(asked) == 1
    unwatched.unroute(FURTHER)
    later(unwatched, 11)
    expect(lead(unwatched)).to_have_text("2,300 places of this project's datasets.")


def test_what_stays_refused_is_not_asked_for_again(unwatched: Page) -> None:
    asked = refuse(unwatched, 404)
    opened(unwatched, MAP)
    told = trouble("1,000", "the server answers 404. Load this page again.")
    expect(lead(unwatched)).to_have_text(told)
    later(unwatched, 8)
    assert len(asked) == 1
    expect(lead(unwatched)).to_have_text(told)


def test_all_that_are_shown_are_told_when_they_cannot_be_read_anew(
    unwatched: Page, api: httpx.Client, first_and_last: list[dict[str, Any]]
) -> None:
    opened(unwatched, MAP)
    expect(lead(unwatched)).to_have_text("2,300 places of this project's datasets.")
    refuse(unwatched, 503, Retry_After="60")
    report(api, first_and_last[1], 1, 1)
    passes(unwatched)
    expect(lead(unwatched)).to_have_text(trouble("2,300", asked_again("the server answers 503")))
    assert on_map(unwatched) == COUNT
    unwatched.unroute(FURTHER)
    later(unwatched, 61)
    expect(unwatched.locator("#map .place .sign.running")).to_have_count(1)
    expect(lead(unwatched)).to_have_text("2,300 places of this project's datasets.")


SPOKEN = """() => {
    const line = document.querySelector("#live-lead .lead");
    window.spoken = [];
    new MutationObserver(() => { if (line.ariaBusy !== "true") window.spoken.push(line.textContent); })
        .observe(line, { childList: true });
}"""


@desktop
def test_a_screen_reader_says_only_how_many_places_there_are_in_the_end(page: Page) -> None:
    release = hold(page)
    with page.expect_request(FURTHER):
        page.goto(MAP)
    expect(lead(page)).to_contain_text("1,000 places of this project's datasets are shown")
    expect(lead(page)).to_have_attribute("aria-busy", "true")
    page.evaluate(SPOKEN)
    release()
    expect(page.get_by_role("status").filter(has_text="2,300 places")).to_have_attribute("aria-busy", "false")
    expect(lead(page)).to_have_text("2,300 places of this project's datasets.")
    assert page.evaluate("window.spoken") == ["2,300 places of this project's datasets."]


@desktop
def test_of_very_many_places_some_are_shown(page: Page) -> None:
    asked: list[str] = []

    def endless(route: Route) -> None:
        asked.append(route.request.url)
        rows = [["x", "x", "origin", 10 + number % 50, 20, 0] for number in range(1000)]
        route.fulfill(json={"states": ["running"], "places": rows, "next": f"{len(asked)}-1"})

    page.route(FURTHER, endless)
    page.goto(MAP)
    told = "There are more: the table below leads to them, and crunch export --project birds has all."
    # All are drawn twenty times, which takes a busy machine a while.
    expect(lead(page)).to_have_text(f"The first 20,000 places of this project's datasets. {told}", timeout=30_000)
    assert len(asked) == len(set(asked)) == 19
    assert on_map(page) == 20_000
    assert any("," in text for text in page.locator("#map .place").all_inner_texts())
