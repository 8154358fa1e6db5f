"""The forms in a real Chromium, on a desktop and on a phone: from a new project to a dataset's attribute."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Page, expect

from tests.support.browsing import no_sideways_scrolling
from tests.support.servers import CrunchServer, crunch_server

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("browser")]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CrunchServer]:
    with crunch_server(tmp_path_factory.mktemp("forms"), users=("alice",)) as running:
        yield running


def test_a_project_a_dataset_and_an_attribute_are_made_and_edited(page: Page, server: CrunchServer) -> None:
    size = "phone" if page.viewport_size and page.viewport_size["width"] < 500 else "desktop"
    page.get_by_role("link", name="New project").or_(page.get_by_role("link", name="Make one here")).first.click()
    page.get_by_role("button", name="Create").click()
    expect(page.get_by_label("Name")).to_have_accessible_description("This field is required.")
    no_sideways_scrolling(page)
    page.get_by_label("Details").fill("**bold** <img src=x onerror=alert(1)>")
    page.get_by_role("button", name="Preview").click()
    expect(page.locator("#preview strong")).to_have_text("bold")
    expect(page.get_by_text("<img src=x")).to_be_visible()
    page.get_by_label("Public").check()
    page.get_by_label("Workflow", exact=False).and_(page.get_by_role("textbox")).fill("#!/bin/bash\n\techo hi\n")
    page.get_by_label("Name").fill(f"Birds on a {size}")
    page.get_by_label("Name").press("Enter")
    expect(page.get_by_role("heading", level=1)).to_have_text(f"Birds on a {size}")
    with server.client() as api:
        made = api.get(f"/api/projects/birds-on-a-{size}/").raise_for_status().json()
    assert (made["workflow"], made["visibility"]) == ("#!/bin/bash\n\techo hi\n", "public")

    page.get_by_role("link", name="New dataset").click()
    page.get_by_label("Name").fill("One")
    page.get_by_label("Held").check()
    no_sideways_scrolling(page)
    page.get_by_role("button", name="Create").click()
    expect(page.get_by_text("held", exact=True)).to_be_visible()
    page.get_by_role("link", name="Edit", exact=True).click()
    page.get_by_label("Description").fill("Seen at dawn")
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_role("main")).to_contain_text("Seen at dawn")
    no_sideways_scrolling(page)

    page.get_by_role("link", name="add an attribute").click()
    page.get_by_role("link", name="lat-long").click()
    page.get_by_label("Key").fill("Nest")
    page.get_by_label("Latitude").fill("91")
    page.get_by_label("Longitude").fill("8.5")
    page.get_by_role("button", name="Add").click()
    expect(page.get_by_label("Latitude")).to_have_accessible_description(re.compile("less than or equal to 90"))
    no_sideways_scrolling(page)
    page.get_by_label("Latitude").fill("47.25")
    page.get_by_role("button", name="Add").click()
    expect(page.get_by_role("link", name="47.25000° N, 8.50000° E")).to_be_visible()
    page.get_by_role("link", name="Edit Nest").click()
    page.get_by_role("link", name="Delete…").click()
    no_sideways_scrolling(page)
    page.get_by_role("button", name="Delete").click()
    expect(page.get_by_role("status")).to_contain_text("The attribute Nest is deleted.")
