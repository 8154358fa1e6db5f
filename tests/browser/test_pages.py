"""The pages in a real Chromium, on a desktop and on a phone: what a person does, with nothing in the console."""

from __future__ import annotations

import datetime as dt
import re
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from playwright.sync_api import Page, Route, expect

from tests.support.browsing import PNG, drop, drop_paths, no_sideways_scrolling
from tests.support.servers import CrunchServer, crunch_server

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("browser")]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CrunchServer]:
    """A server with a project of two datasets; one has a file and failed."""
    with crunch_server(tmp_path_factory.mktemp("pages"), users=("alice",)) as running:
        with running.client() as api:
            project = {"name": "Birds", "workflow": "#!/bin/bash\n", "details": "<script>alert(1)</script> **bold**"}
            api.post("/api/projects/", json=project).raise_for_status()
            for name in ("Waiting", "Failed"):
                dataset = api.post("/api/datasets/", json={"name": name, "parent": "birds"}).raise_for_status().json()
                place = {"item": dataset["slug"], "key": "origin", "latitude": -12.5, "longitude": 45.25}
                api.post("/api/attributes/lat-long/", json=place).raise_for_status()
            folder = running.folder / "media" / dataset["base_file_path"]
            folder.mkdir(parents=True)
            (folder / "a b#1.txt").write_text("downloaded")
            (folder / "<img src=x onerror=alert(1)>").touch()
            (folder / "cut.png").write_bytes(PNG[:20])
            (folder / "plots").mkdir()
            (folder / "plots" / "one.png").write_bytes(PNG)
            (folder / "plots" / "two.svg").write_text("<svg><script>alert(1)</script></svg>")
            body = {"dataset": dataset["slug"], "request_id": "r1", "client": "test"}
            claim = api.post("/api/claims/", json=body).raise_for_status().json()
            for state, note in ((1, ""), (3, "\n".join(f"line {number} of a long note" for number in range(80)))):
                body = {"dataset": dataset["id"], "claim": claim["claim"], "fence": claim["fence"], "stage": 1}
                body |= {"state": state, "note": note, "event_id": f"e{state}"}
                api.post("/api/statuses/", json=body).raise_for_status()
        yield running


def held_dataset(server: CrunchServer) -> dict[str, Any]:
    with server.client() as api:
        body = {"name": f"inputs {uuid.uuid4().hex[:8]}", "parent": "birds", "locked": True}
        made: dict[str, Any] = api.post("/api/datasets/", json=body).raise_for_status().json()
    return made


def test_from_the_projects_to_hold_and_let_go(page: Page) -> None:
    no_sideways_scrolling(page)
    page.get_by_role("link", name="Birds").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Birds")
    expect(page.get_by_role("img", name="1 failed")).to_be_visible()
    no_sideways_scrolling(page)
    page.get_by_role("link", name="unprocessed 1").click()
    expect(page.get_by_role("link", name="Failed", exact=True)).to_have_count(0)
    page.get_by_role("link", name="Waiting", exact=True).click()
    page.get_by_role("button", name="Hold").click()
    expect(page.get_by_role("status")).to_contain_text("The dataset is held")
    expect(page.get_by_text("held", exact=True)).to_be_visible()
    page.get_by_role("button", name="Let go").click()
    expect(page.get_by_role("button", name="Hold")).to_be_visible()
    no_sideways_scrolling(page)


def test_a_retry_shows_first_what_it_would_do(page: Page) -> None:
    page.goto("/projects/birds/")
    page.get_by_role("link", name="Retry failed").click()
    expect(page.get_by_role("button", name="Retry 1 dataset")).to_be_visible()
    expect(page.get_by_role("region", name="Which").get_by_role("link")).to_have_text(["birds:failed"])
    no_sideways_scrolling(page)
    page.get_by_role("link", name="Not now").click()
    expect(page.get_by_role("img", name="1 failed")).to_be_visible()


def test_why_a_dataset_failed_and_its_files(page: Page, tmp_path: Path) -> None:
    page.goto(f"/projects/birds/datasets/{quote('birds:failed')}")
    expect(page.get_by_label("What the failure said")).to_contain_text("line 79 of a long note")
    note = page.get_by_role("region", name="Status history").locator(".note")
    expect(note.locator("pre")).to_be_hidden()
    note.locator("summary").click()
    expect(note.locator("pre")).to_contain_text("line 79 of a long note")
    with page.expect_download() as download:
        page.get_by_role("link", name="Download a b#1.txt").click()
    assert Path(download.value.path()).read_text() == "downloaded"
    assert download.value.suggested_filename == "a b#1.txt"
    no_sideways_scrolling(page)
    page.get_by_role("link", name="a b#1.txt", exact=True).click()
    expect(page.get_by_label("The file's text")).to_have_text("downloaded")
    no_sideways_scrolling(page)
    page.go_back()
    page.get_by_text("plots/ 2 files").click()
    expect(page.get_by_role("link", name="one.png", exact=True)).to_be_hidden()
    page.get_by_text("plots/ 2 files").click()
    page.get_by_role("link", name="one.png", exact=True).click()
    image = page.get_by_role("img", name="one.png")
    expect(image).to_be_visible()
    page.wait_for_function("image => image.naturalWidth === 1", arg=image.element_handle())
    page.go_back()
    page.get_by_role("link", name="two.svg", exact=True).click()
    expect(page.get_by_label("The file's text")).to_contain_text("<script>alert(1)</script>")
    page.go_back()
    page.get_by_role("link", name="cut.png", exact=True).click()
    expect(page.get_by_role("img", name="cut.png (the browser cannot show it)")).to_be_visible()


def test_files_are_added_by_choosing_and_by_dropping(page: Page, server: CrunchServer, tmp_path: Path) -> None:
    made = held_dataset(server)
    folder = server.folder / "media" / made["base_file_path"]
    page.goto(f"/projects/birds/datasets/{quote(made['slug'])}")
    (tmp_path / "chosen #1.txt").write_text("chosen")
    page.get_by_label("Choose files").set_input_files(tmp_path / "chosen #1.txt")
    expect(page.get_by_role("link", name="chosen #1.txt", exact=True)).to_be_visible()
    assert (folder / "chosen #1.txt").read_text() == "chosen"
    drop(page, {"dropped.txt": "dropped", "ä.txt": "ä"})
    expect(page.get_by_role("link", name="dropped.txt", exact=True)).to_be_visible()
    assert (folder / "ä.txt").read_text() == "ä"
    no_sideways_scrolling(page)
    page.get_by_label("Replace files of the same name").check()
    drop(page, {"dropped.txt": "another"})
    expect(page.get_by_label("Replace files of the same name")).not_to_be_checked()
    assert (folder / "dropped.txt").read_text() == "another"


@pytest.mark.parametrize("page", ["desktop"], indirect=True)
def test_what_is_dropped_while_files_are_sent_is_sent_too(page: Page, server: CrunchServer) -> None:
    made = held_dataset(server)
    page.goto(f"/projects/birds/datasets/{quote(made['slug'])}")
    waiting: list[Route] = []

    def hold(route: Route) -> None:
        waiting.append(route)

    page.route("**/upload/first.txt", hold)
    told = page.get_by_role("form", name="Add files").get_by_role("status")
    drop(page, {"first.txt": "first"})
    expect(told).to_contain_text("0 of 1 files")
    drop(page, {"second.txt": "second"})
    expect(told).to_contain_text("1 of 2 files")
    waiting[0].continue_()
    for name in ("first", "second"):
        expect(page.get_by_role("link", name=f"{name}.txt", exact=True)).to_be_visible()


@pytest.mark.parametrize("page", ["desktop"], indirect=True)
def test_of_a_folder_all_is_sent_that_can_be_and_the_rest_is_named(
    page: Page, server: CrunchServer, tmp_path: Path
) -> None:
    made = held_dataset(server)
    page.goto(f"/projects/birds/datasets/{quote(made['slug'])}")
    for name in ("empty", "plots"):
        (tmp_path / name).mkdir()
    for name in ("locked.txt", "plots/a.txt", "plots/two\nlines.txt", "plots/z.txt"):
        (tmp_path / name).write_text(name)
    # Root, who may run the tests, can read everything.
    page.evaluate(
        """() => {
            const take = DataTransferItem.prototype.webkitGetAsEntry;
            DataTransferItem.prototype.webkitGetAsEntry = function () {
                const entry = take.call(this);
                if (entry.name === "locked.txt") entry.file = (_done, failed) => failed(new DOMException("no"));
                return entry;
            };
        }"""
    )
    drop_paths(page, [tmp_path / name for name in ("locked.txt", "plots", "empty")])
    form = page.get_by_role("form", name="Add files")
    expect(form.get_by_role("status")).to_have_text("2 files were sent. Not sent:")
    expect(form).to_contain_text("locked.txt: It cannot be read.")
    expect(form).to_contain_text("lines.txt: Names of files cannot hold a line break.")
    expect(form).to_contain_text("empty: There are no files in it.")
    sent = server.folder / "media" / made["base_file_path"] / "plots"
    assert sorted(path.name for path in sent.iterdir()) == ["a.txt", "z.txt"]


@pytest.mark.parametrize("page", ["desktop"], indirect=True)
def test_a_file_of_which_nothing_goes_through_is_given_up(page: Page, server: CrunchServer) -> None:
    page.clock.install()
    page.goto(f"/projects/birds/datasets/{quote(held_dataset(server)['slug'])}")
    page.route("**/upload/**", lambda _route: None)
    with page.expect_request("**/upload/**"):
        drop(page, {"stuck.txt": "stuck"})
    page.clock.run_for(60_000)
    form = page.get_by_role("form", name="Add files")
    expect(form).to_contain_text("stuck.txt: Nothing of it went through for 60 seconds.")


def test_the_page_follows_what_happens(page: Page, server: CrunchServer) -> None:
    page.clock.install()
    page.goto(f"/projects/birds/datasets/{quote('birds:waiting')}")
    expect(page.get_by_label("State", exact=True)).to_contain_text("unprocessed")
    history = page.get_by_role("region", name="Status history")
    seen = history.locator("tbody tr").count()
    with server.client() as api:
        # History only: the state, and with it the rest of the page, stays.
        late = {"dataset": api.get("/api/datasets/birds:waiting/").json()["id"], "stage": 2, "state": 3}
        api.post("/api/statuses/", json=late).raise_for_status()
        page.clock.run_for(5_000)
        expect(history.locator("tbody tr")).to_have_count(seen + 1)
        expect(history.get_by_role("heading")).to_have_text(f"Status history {seen + 1}")
        api.patch("/api/datasets/birds:waiting/", json={"locked": True}).raise_for_status()
        page.clock.run_for(5_000)
        expect(page.get_by_label("State", exact=True)).to_contain_text("held")
        api.patch("/api/datasets/birds:waiting/", json={"locked": False}).raise_for_status()


@pytest.mark.parametrize("page", ["desktop"], indirect=True)
def test_the_acts_on_a_page_follow_what_others_do(page: Page, server: CrunchServer) -> None:
    page.clock.install()
    page.goto("/projects/birds/")
    with server.client() as api:
        for paused, act in ((True, "Resume"), (False, "Pause")):
            api.patch("/api/projects/birds/", json={"paused": paused}).raise_for_status()
            page.clock.run_for(5_000)
            expect(page.get_by_role("button", name=act, exact=True)).to_be_visible()


def test_a_page_that_is_not_fresh_any_more_says_so(unwatched: Page) -> None:
    page = unwatched
    page.clock.install()
    page.goto("/projects/birds/")
    stale = page.get_by_text("Not up to date since").or_(page.get_by_text("You were signed out"))

    def refresh(comes: bool) -> None:
        with page.expect_event("requestfinished" if comes else "requestfailed"):
            page.clock.run_for(5_000)

    page.context.set_offline(True)
    refresh(comes=False)
    expect(stale).to_have_count(0)
    refresh(comes=False)
    expect(stale).to_have_text(re.compile(r"^Not up to date since \d\d:\d\d: the server does not answer\.$"))
    no_sideways_scrolling(page)
    page.context.set_offline(False)
    refresh(comes=True)
    expect(stale).to_have_count(0)
    page.context.clear_cookies()
    refresh(comes=True)
    refresh(comes=True)
    expect(stale).to_have_text("You were signed out: sign in again.")


def test_times_are_right_where_the_clock_is_a_day_off(page: Page) -> None:
    """X12. A browser tells how long ago something was by the server's clock."""
    for days in (-1, 1):
        page.clock.set_fixed_time(dt.datetime.now(dt.UTC) + dt.timedelta(days=days))
        page.goto(f"/projects/birds/datasets/{quote('birds:failed')}")
        times = page.get_by_role("region", name="Status history").locator("time")
        expect(times.first).to_have_text(re.compile("just now|(second|minute)s? ago"))


def test_a_mark_of_the_map_leads_to_all_datasets_of_its_place(page: Page) -> None:
    page.goto("/projects/birds/")
    page.get_by_role("link", name="Map", exact=True).click()
    expect(page.get_by_role("link", name="Map", exact=True)).to_have_attribute("aria-current", "page")
    expect(page.locator("#places")).to_contain_text("12.50000° S, 45.25000° E")
    expect(page.locator("#map .degrees").filter(has_text="45° E")).to_be_visible()
    expect(page.locator("#map .degrees").filter(has_text="10° S")).to_be_visible()
    expect(page.get_by_role("list", name="Signs on the map")).to_contain_text("unprocessed")
    marker = page.locator("#map .place")
    expect(marker).to_have_count(1)
    expect(marker).to_have_text("2")
    marker.click()
    no_sideways_scrolling(page)
    expect(page.locator("#map").get_by_role("link")).to_have_text(["Waiting", "Failed"])
    # The map moves until the whole popup is seen.
    expect(page.locator("#map .leaflet-pan-anim")).to_have_count(0)
    page.locator("#map").get_by_role("link", name="Waiting").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Waiting")


def test_the_account_shows_the_token(page: Page, server: CrunchServer) -> None:
    page.get_by_role("link", name="alice").click()
    expect(page.get_by_role("main")).to_contain_text(f"export CRUNCH_URL={server.url}")
    expect(page.get_by_role("main")).to_contain_text(f"export CRUNCH_TOKEN={server.tokens['alice']}")
    no_sideways_scrolling(page)


def test_a_manager_adds_a_webhook_and_removes_it(page: Page) -> None:
    page.goto("/projects/birds/")
    page.get_by_role("link", name="Webhooks").click()
    address = f"https://hooks.example.org/{'long' * 20}"
    page.get_by_label("Address").fill(address)
    page.get_by_label("when a dataset is completed").uncheck()
    page.get_by_role("button", name="Add", exact=True).click()
    expect(page.get_by_text("crunch_hook_")).to_be_visible()
    no_sideways_scrolling(page)
    page.goto("/projects/birds/webhooks")
    expect(page.get_by_text("crunch_hook_")).to_have_count(0)
    page.get_by_role("button", name="Stop https://hooks").click()
    expect(page.get_by_text("stopped", exact=True)).to_be_visible()
    page.get_by_role("button", name="Remove https://hooks").click()
    expect(page.get_by_role("status")).to_contain_text("is told no more")


def test_by_keyboard_alone(page: Page) -> None:
    page.goto("/")
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="New project")).to_be_focused()
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Birds")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_have_text("Birds")
