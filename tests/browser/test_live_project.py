"""A project's open pages, its map's, an item's and the account's: each shows what others do, not loaded again."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import httpx
import pytest
from playwright.sync_api import Page, expect

from tests.support.browsing import Make, it_waits, no_sideways_scrolling, not_loaded_again, opened, passes, report

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("browser")]
desktop = pytest.mark.parametrize("page", ["desktop"], indirect=True)


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
