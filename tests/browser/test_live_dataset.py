"""A dataset's open page in a real Chromium: it shows what others do, and leaves alone what is in use."""

from __future__ import annotations

import re
from typing import Any

import httpx
import pytest
from playwright.sync_api import Page, expect

from tests.support.browsing import Make, address_of, drop, it_waits, not_loaded_again, opened, passes, report
from tests.support.servers import CrunchServer

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("browser")]
desktop = pytest.mark.parametrize("page", ["desktop"], indirect=True)


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
        opened(page, address_of(dataset))
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
    opened(page, address_of(dataset))
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
    other.goto(address_of(dataset))
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
    page.goto(f"{address_of(dataset)}/look/two.txt")
    (folder / "two.txt").write_text("new")
    api.patch(f"/api/datasets/{dataset['slug']}/", json={"description": "still more"}).raise_for_status()
    passes(page)
    expect(page.get_by_label("The file's text")).to_have_text("new")


def test_a_page_of_what_was_deleted_says_so(unwatched: Page, api: httpx.Client, dataset: dict[str, Any]) -> None:
    opened(unwatched, address_of(dataset))
    api.delete(f"/api/datasets/{dataset['slug']}/").raise_for_status()
    for _ in range(2):
        passes(unwatched)
    expect(unwatched.get_by_text("What this page shows was deleted, or is not open to you any more.")).to_be_visible()
