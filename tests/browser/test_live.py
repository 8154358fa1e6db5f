"""Open pages in a real Chromium: each shows what others do, is not loaded again, and leaves alone what is in use."""

from __future__ import annotations

import contextlib
import re
import sqlite3
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from playwright.sync_api import Locator, Page, expect

from tests.support.browsing import drop, no_sideways_scrolling
from tests.support.servers import CrunchServer, crunch_server

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("browser")]
desktop = pytest.mark.parametrize("page", ["desktop"], indirect=True)

Make = Callable[..., dict[str, Any]]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CrunchServer]:
    """Alice is not of the staff: she may what her role lets her."""
    with crunch_server(tmp_path_factory.mktemp("live"), users=("alice", "bob")) as running:
        with contextlib.closing(sqlite3.connect(running.folder / "crunch.sqlite3")) as database, database:
            database.execute("UPDATE auth_user SET is_staff = 0 WHERE username = 'alice'")
        yield running


@pytest.fixture
def api(server: CrunchServer) -> Iterator[httpx.Client]:
    with server.client() as client:
        yield client


@pytest.fixture
def make(api: httpx.Client) -> Make:
    """Make a thing in the catalogue; it has a project of its own if it is none."""

    def made(kind: str, **values: Any) -> dict[str, Any]:
        found: dict[str, Any] = api.post(f"/api/{kind}/", json=values).raise_for_status().json()
        return found

    return made


@pytest.fixture
def dataset(make: Make, request: pytest.FixtureRequest) -> dict[str, Any]:
    project = make("projects", name=re.sub(r"\W+", " ", request.node.name), workflow="#!/bin/bash\n")
    return make("datasets", name="Egg", parent=project["slug"])


def opened(page: Page, path: str) -> None:
    """Open the page; `not_loaded_again` tells whether it still is this one. Its time stands still."""
    page.clock.install()
    page.goto(path)
    page.evaluate("window.stays = true")


def not_loaded_again(page: Page) -> bool:
    return bool(page.evaluate("window.stays === true"))


def passes(page: Page, seconds: int = 10) -> None:
    """So much time passes, and what the page asked for has come."""
    with page.expect_response(lambda answer: "x-requested-with" in answer.request.headers):
        page.clock.run_for(seconds * 1000)


def at(dataset: dict[str, Any]) -> str:
    return f"/projects/{dataset['parent']}/datasets/{quote(dataset['slug'])}"


def report(api: httpx.Client, dataset: dict[str, Any], stage: int, state: int, **values: Any) -> None:
    body = {"dataset": dataset["id"], "stage": stage, "state": state, **values}
    api.post("/api/statuses/", json=body).raise_for_status()


def it_waits(page: Page) -> Locator:
    return page.get_by_text("The part that you are using")


@desktop
def test_a_datasets_page(
    page: Page, api: httpx.Client, server: CrunchServer, make: Make, dataset: dict[str, Any]
) -> None:
    members = f"/api/projects/{dataset['parent']}/members"
    of_an_editor = [
        page.get_by_role("link", name="Edit", exact=True),
        page.get_by_role("button", name="Hold", exact=True),
        page.get_by_role("form", name="Add files"),
    ]
    with server.client("bob") as bob:
        for user, role in (("bob", "manager"), ("alice", "viewer")):
            bob.put(f"{members}/{user}/", json={"role": role}).raise_for_status()
        opened(page, at(dataset))
        for act in of_an_editor:
            expect(act).to_be_hidden()
        bob.put(f"{members}/alice/", json={"role": "manager"}).raise_for_status()
        passes(page)
        for act in of_an_editor:
            expect(act).to_be_visible()
    make("attributes/int", item=dataset["slug"], key="legs", value=6)
    make("items", name="Wing", parent=dataset["slug"])
    news = {"name": "Larva", "description": "It eats.", "details": "Much", "priority": 7}
    api.patch(f"/api/datasets/{dataset['slug']}/", json=news).raise_for_status()
    passes(page)
    expect(page.get_by_role("heading", level=1)).to_have_text("Larva")
    expect(page).to_have_title(re.compile("^Larva"))
    for told in ("It eats.", "Much", "legs", "Wing"):
        expect(page.get_by_role("main")).to_contain_text(told)
    expect(page.get_by_role("region", name="Record")).to_contain_text("7")
    api.patch(f"/api/projects/{dataset['parent']}/", json={"name": "Insects"}).raise_for_status()
    passes(page)
    expect(page.get_by_role("link", name="Insects")).to_be_visible()
    # What is selected stays, from its beginning to its end, and one is told that there it is not up to date.
    page.evaluate("getSelection().setBaseAndExtent(document.querySelector('h1'), 0, document.querySelector('dd'), 1)")
    make("attributes/int", item=dataset["slug"], key="eyes", value=2)
    for _ in range(2):
        passes(page)
    assert re.match(r"(?s)Larva.*legs.*6$", page.evaluate("String(getSelection())"))
    expect(it_waits(page)).to_be_visible()
    page.evaluate("getSelection().removeAllRanges()")
    passes(page)
    expect(page.get_by_role("main")).to_contain_text("eyes")
    expect(it_waits(page)).to_have_count(0)
    # Of a run, its buttons and whether it takes files too.
    report(api, dataset, 1, 1)
    passes(page)
    expect(page.get_by_label("State", exact=True)).to_contain_text("running")
    expect(page.get_by_role("form", name="Add files")).to_be_hidden()
    report(api, dataset, 2, 3, note="\x1b[31mKeyError\x1b[0m")
    passes(page)
    expect(page.get_by_role("button", name="Retry", exact=True)).to_be_visible()
    api.post(f"/api/datasets/{dataset['slug']}/retry/", json={}).raise_for_status()
    passes(page)
    expect(page.get_by_role("form", name="Add files")).to_be_visible()
    with server.client("bob") as bob:
        bob.put(f"{members}/alice/", json={"role": "viewer"}).raise_for_status()
    passes(page)
    for act in of_an_editor:
        expect(act).to_be_hidden()
    assert not_loaded_again(page)


@desktop
def test_files_are_listed_anew_only_when_they_may_be_others(
    page: Page, api: httpx.Client, server: CrunchServer, dataset: dict[str, Any]
) -> None:
    folder = server.folder / "media" / dataset["base_file_path"]
    (folder / "plots").mkdir(parents=True)
    (folder / "plots" / "one.txt").write_text("1")
    opened(page, at(dataset))
    wholes: list[str] = []
    page.on("request", lambda asked: "x-requested-with" in asked.headers or wholes.append(asked.url))
    (folder / "two.txt").write_text("2")
    for _ in range(3):
        passes(page)
    assert wholes == []
    expect(page.get_by_role("link", name="two.txt", exact=True)).to_have_count(0)
    # Somebody sends a file. A folder that was closed stays so.
    page.get_by_text("plots/ 1 file").click()
    expect(page.get_by_role("link", name="one.txt", exact=True)).to_be_hidden()
    other = page.context.new_page()
    other.goto(at(dataset))
    drop(other, {"three.txt": "3"})
    expect(other.get_by_role("link", name="three.txt", exact=True)).to_be_visible()
    passes(page, 30)
    expect(page.get_by_role("link", name="three.txt", exact=True)).to_be_visible()
    expect(page.get_by_role("link", name="one.txt", exact=True)).to_be_hidden()
    expect(page.locator("summary").filter(has_text="plots/")).to_be_focused()
    assert len(wholes) == 1
    # A link in focus stays in it.
    page.get_by_role("link", name="two.txt", exact=True).focus()
    (folder / "four.txt").write_text("4")
    api.patch(f"/api/datasets/{dataset['slug']}/", json={"description": "more"}).raise_for_status()
    passes(page, 30)
    expect(page.get_by_role("link", name="four.txt", exact=True)).to_be_visible()
    expect(page.get_by_role("link", name="two.txt", exact=True)).to_be_focused()
    assert len(wholes) == 2
    # Where something is selected, nothing moves, and the storage is not asked for nothing.
    page.evaluate("getSelection().selectAllChildren(document.getElementById('files'))")
    (folder / "five.txt").write_text("5")
    api.patch(f"/api/datasets/{dataset['slug']}/", json={"description": "and more"}).raise_for_status()
    for _ in range(2):
        passes(page, 30)
    expect(page.get_by_role("link", name="five.txt", exact=True)).to_have_count(0)
    expect(it_waits(page)).to_be_visible()
    assert len(wholes) == 2
    page.evaluate("getSelection().removeAllRanges()")
    passes(page, 30)
    expect(page.get_by_role("link", name="five.txt", exact=True)).to_be_visible()
    # What one sends oneself is listed at once.
    page.get_by_label("Replace files of the same name").check()
    drop(page, {"sent.txt": "sent"})
    expect(page.get_by_role("link", name="sent.txt", exact=True)).to_be_visible()
    form = page.get_by_role("form", name="Add files")
    expect(form.get_by_role("status")).to_have_text("1 file was sent.")
    expect(form.get_by_label("Replace files of the same name")).not_to_be_checked()
    drop(page, {"another.txt": "sent"})
    expect(page.get_by_role("link", name="another.txt", exact=True)).to_be_visible()
    assert not_loaded_again(page)
    # A file that is looked at.
    page.goto(f"{at(dataset)}/look/two.txt")
    (folder / "two.txt").write_text("new")
    api.patch(f"/api/datasets/{dataset['slug']}/", json={"description": "still more"}).raise_for_status()
    passes(page)
    expect(page.get_by_label("The file's text")).to_have_text("new")


@desktop
def test_a_projects_page_and_an_items(page: Page, api: httpx.Client, make: Make, dataset: dict[str, Any]) -> None:
    project = dataset["parent"]
    opened(page, f"/projects/{project}/")
    make("attributes/char", item=project, key="country", value="Norway")
    news = {"name": "Insects", "description": "All of them", "details": "About", "workflow": "#!/bin/bash\nnew\n"}
    api.patch(f"/api/projects/{project}/", json={**news, "lease_seconds": 120}).raise_for_status()
    passes(page)
    expect(page.get_by_role("heading", level=1)).to_have_text("Insects")
    for told in ("All of them", "About", "Norway", "2 min"):
        expect(page.get_by_role("main")).to_contain_text(told)
    expect(page.get_by_label("The workflow's text")).to_contain_text("new")
    # What is selected stays.
    page.evaluate("getSelection().selectAllChildren(document.querySelector('pre.code'))")
    api.patch(f"/api/projects/{project}/", json={"workflow": "#!/bin/bash\nnewer\n"}).raise_for_status()
    passes(page)
    expect(page.get_by_label("The workflow's text")).not_to_contain_text("newer")
    page.evaluate("getSelection().removeAllRanges()")
    passes(page)
    expect(page.get_by_label("The workflow's text")).to_contain_text("newer")
    # A link in focus stays in it, and is not taken away under a finger.
    egg = page.get_by_role("link", name="Egg")
    egg.focus()
    make("datasets", name="Larva", parent=project)
    passes(page)
    expect(page.get_by_role("link", name="Larva")).to_be_visible()
    expect(egg).to_be_focused()
    egg.hover()
    page.mouse.down()
    make("datasets", name="Imago", parent=project)
    passes(page)
    assert not_loaded_again(page)
    page.mouse.up()
    expect(page.get_by_role("heading", level=1)).to_have_text("Egg")

    item = make("items", name="Wing", parent=dataset["slug"])
    page.goto(f"/items/{quote(item['slug'])}/")
    make("attributes/int", item=item["slug"], key="veins", value=12)
    make("items", name="Edge", parent=item["slug"])
    api.patch(f"/api/items/{item['slug']}/", json={"name": "Left wing"}).raise_for_status()
    passes(page)
    expect(page.get_by_role("heading", level=1)).to_have_text("Left wing")
    expect(page.get_by_role("main")).to_contain_text("veins")
    expect(page.get_by_role("link", name="Edge")).to_be_visible()
    api.delete(f"/api/items/{item['slug']}/").raise_for_status()


@desktop
def test_the_map(page: Page, api: httpx.Client, make: Make, dataset: dict[str, Any]) -> None:
    opened(page, f"/projects/{dataset['parent']}/map")
    expect(page.locator("#map")).to_be_hidden()
    make("attributes/lat-long", item=dataset["slug"], key="origin", latitude=60, longitude=10)
    passes(page)
    marker = page.locator("#map .place")
    expect(marker.locator(".sign.unprocessed")).to_be_visible()
    marker.click()
    told = page.locator("#map .here")
    expect(told).to_contain_text("unprocessed")
    expect(page.locator("#map .leaflet-pan-anim")).to_have_count(0)
    link = told.get_by_role("link", name="Egg").element_handle()
    where = page.locator("#map .leaflet-map-pane").get_attribute("style")
    report(api, dataset, 1, 1)
    other = make("datasets", name="Larva", parent=dataset["parent"])
    make("attributes/lat-long", item=other["slug"], key="origin", latitude=64, longitude=20)
    passes(page, 30)
    expect(marker).to_have_count(2)
    expect(marker.locator(".sign.running")).to_be_visible()
    # The popup stays open, with its link and where it was, and tells what is so now.
    expect(told).to_contain_text("running")
    assert page.evaluate("link => link.isConnected", link)
    assert page.locator("#map .leaflet-map-pane").get_attribute("style") == where
    api.delete(f"/api/datasets/{other['slug']}/").raise_for_status()
    passes(page, 30)
    expect(marker).to_have_count(1)
    no_sideways_scrolling(page)
    assert not_loaded_again(page)


@desktop
def test_places_that_are_close_together_share_a_mark_until_a_closer_look(
    page: Page, api: httpx.Client, make: Make, dataset: dict[str, Any]
) -> None:
    larva = make("datasets", name="Larva", parent=dataset["parent"])
    for item, longitude in ((dataset, 10), (larva, 10.1)):
        make("attributes/lat-long", item=item["slug"], key="origin", latitude=60, longitude=longitude)
    opened(page, f"/projects/{dataset['parent']}/map")
    marker = page.locator("#map .place")
    expect(marker).to_have_text(["2"])
    expect(marker.locator(".sign.unprocessed")).to_be_visible()
    report(api, dataset, 1, 1)
    passes(page, 30)
    expect(marker.locator(".sign.several")).to_be_visible()
    marker.click()
    expect(marker).to_have_text(["", ""])
    expect(marker.locator(".sign.running")).to_be_visible()
    expect(page.locator("#map .here")).to_have_count(0)
    expect(page.locator("#map .leaflet-zoom-anim")).to_have_count(0)
    page.get_by_title("Larva: unprocessed").click()
    expect(page.locator("#map .here")).to_have_text("Larvaorigin · 60.00000° N, 10.10000° E · unprocessed")
    expect(page.locator("#map .leaflet-pan-anim")).to_have_count(0)
    # From further away they are one again, and the popup is of neither.
    page.evaluate("map.setZoom(4)")
    expect(marker).to_have_text(["2"])
    expect(page.locator("#map .here")).to_have_count(0)


@desktop
def test_failures_changes_and_versions(page: Page, api: httpx.Client, dataset: dict[str, Any]) -> None:
    project = dataset["parent"]
    opened(page, f"/projects/{project}/failures")
    for stage, state in ((1, 1), (2, 1), (2, 3)):
        report(api, dataset, stage, state, note="KeyError: 'a'" if state == 3 else "")
    passes(page)
    expect(page.get_by_role("listitem").filter(has_text="KeyError")).to_be_visible()
    assert not_loaded_again(page)
    page.goto(f"/projects/{project}/changes")
    api.patch(f"/api/projects/{project}/", json={"description": "A word"}).raise_for_status()
    passes(page)
    expect(page.get_by_role("row").filter(has_text="A word")).to_be_visible()
    page.goto(f"/projects/{project}/workflows")
    seen = page.locator("tbody tr").count()
    api.patch(f"/api/projects/{project}/", json={"workflow": "#!/bin/bash\nnew\n"}).raise_for_status()
    passes(page, 30)
    expect(page.locator("tbody tr")).to_have_count(seen + 1)


@desktop
def test_members_webhooks_and_tokens_but_not_what_a_person_has_chosen_and_not_saved(
    page: Page, api: httpx.Client, dataset: dict[str, Any]
) -> None:
    members = f"/api/projects/{dataset['parent']}/members"
    opened(page, f"/projects/{dataset['parent']}/members")
    api.put(f"{members}/bob/", json={"role": "viewer"}).raise_for_status()
    passes(page)
    role = page.get_by_label("Role of bob")
    expect(role).to_have_value("viewer")
    role.select_option("editor")
    page.get_by_role("heading", level=1).click()
    api.put(f"{members}/bob/", json={"role": "runner"}).raise_for_status()
    for _ in range(2):
        passes(page)
    expect(role).to_have_value("editor")
    expect(it_waits(page)).to_be_visible()
    role.select_option("viewer")
    page.get_by_role("heading", level=1).click()
    passes(page)
    expect(role).to_have_value("runner")
    assert not_loaded_again(page)

    page.goto(f"/projects/{dataset['parent']}/webhooks")
    hook = {"url": "https://hooks.example.invalid/x", "events": ["failed"]}
    api.post(f"/api/projects/{dataset['parent']}/webhooks/", json=hook).raise_for_status()
    report(api, dataset, 1, 1)
    report(api, dataset, 1, 3, note="no")
    # What is typed meanwhile stays.
    page.get_by_label("Address").fill("https://half.exam")
    passes(page)
    expect(page.get_by_role("button", name=f"Send {dataset['slug']} failed again")).to_be_visible()
    expect(page.get_by_role("button", name="Stop https://hooks")).to_be_visible()
    expect(page.get_by_label("Address")).to_have_value("https://half.exam")
    page.goto("/account/")
    api.post("/api/tokens/", json={"name": "made elsewhere"}).raise_for_status()
    passes(page)
    page.get_by_role("button", name="End the token made elsewhere").click()
    expect(page.get_by_role("status")).to_contain_text("is ended")


def test_a_page_of_what_was_deleted_says_so(unwatched: Page, api: httpx.Client, dataset: dict[str, Any]) -> None:
    opened(unwatched, at(dataset))
    api.delete(f"/api/datasets/{dataset['slug']}/").raise_for_status()
    for _ in range(2):
        passes(unwatched)
    expect(unwatched.get_by_text("What this page shows was deleted, or is not open to you any more.")).to_be_visible()
