"""A project's grid in a real Chromium, on a desktop and on a phone: filter, search, order, pages."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from playwright.sync_api import Locator, Page, expect

from tests.support.browsing import no_sideways_scrolling
from tests.support.servers import CrunchServer, crunch_server

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("browser")]

NOTES = {
    "sample-03": "ValueError: expected 12 columns, got 9 in 'sample-03.csv'",
    "sample-04": "ValueError: expected 12 columns, got 11 in 'sample-04.csv'",
    "sample-05": "run.sh: line 7: bwa: command not found",
}
SETUP, WORKFLOW, UPLOAD = 1, 2, 3
START, SUCCESS, FAIL = 1, 2, 3


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CrunchServer]:
    """A project of 60 datasets: some are completed, one is running, and three failed, two of them alike."""
    with crunch_server(tmp_path_factory.mktemp("grid"), users=("alice",)) as running:
        with running.client() as api:
            api.post("/api/projects/", json={"name": "Birds", "workflow": "#!/bin/bash\n"}).raise_for_status()
            made = {}
            for number in range(60):
                body = {"name": f"Sample {number:02}", "parent": "birds"}
                dataset = api.post("/api/datasets/", json=body).raise_for_status().json()
                made[dataset["slug"].split(":")[1]] = dataset["id"]
            for key in ("sample-00", "sample-01", "sample-02", "sample-06", "sample-07"):
                report(api, made[key], (SETUP, START), (SETUP, SUCCESS), (UPLOAD, START), (UPLOAD, SUCCESS))
            for key in NOTES:
                fail(api, made[key], key)
            claim = api.post(
                "/api/claims/", json={"dataset": "birds:sample-08", "request_id": "r", "client": "c"}
            ).json()
            held = {"claim": claim["claim"], "fence": claim["fence"]}
            for number, (stage, state) in enumerate([(SETUP, START), (SETUP, SUCCESS), (WORKFLOW, START)]):
                report(api, made["sample-08"], (stage, state), event_id=f"e{number}", **held)
            beat = {"fence": claim["fence"], "progress": {"done": 3, "total": 7}}
            api.post(f"/api/claims/{claim['claim']}/heartbeat/", json=beat).raise_for_status()
        yield running


def report(api: httpx.Client, dataset: int, *steps: tuple[int, int], **values: Any) -> None:
    for stage, state in steps:
        body = {"dataset": dataset, "stage": stage, "state": state, **values}
        api.post("/api/statuses/", json=body).raise_for_status()


def fail(api: httpx.Client, dataset: int, key: str) -> None:
    note = f"The script ended with exit code 1.\n\nLast lines of its output:\n{NOTES[key]}"
    report(api, dataset, (SETUP, START), (WORKFLOW, START), (WORKFLOW, FAIL), note=note)


def rows(page: Page) -> Locator:
    return page.get_by_role("region", name="Datasets").locator("tbody tr")


def test_filter_search_order_and_next_page(page: Page) -> None:
    page.goto("/projects/birds/")
    expect(rows(page)).to_have_count(50)
    no_sideways_scrolling(page)
    page.get_by_role("link", name="Next").click()
    expect(rows(page)).to_have_count(10)
    page.get_by_role("link", name="Previous").click()
    expect(rows(page).first).to_contain_text("Sample 00")
    page.get_by_role("link", name="failed 3").click()
    expect(rows(page).get_by_role("link")).to_have_text(["Sample 03", "Sample 04", "Sample 05"])
    page.get_by_role("link", name="Last updated").click()
    expect(rows(page).first).to_contain_text("Sample 05")
    page.get_by_role("link", name="all 60").click()
    page.get_by_role("searchbox").fill("sample 1")
    page.get_by_role("searchbox").press("Enter")
    expect(rows(page)).to_have_count(10)
    expect(rows(page).first).to_contain_text("Sample 10")
    page.get_by_role("searchbox").fill("penguin")
    page.get_by_role("button", name="Search").click()
    page.get_by_role("link", name="Show all").click()
    expect(rows(page)).to_have_count(50)


def test_the_stages_are_told_by_words_too(page: Page) -> None:
    page.goto("/projects/birds/?state=running")
    expect(rows(page)).to_contain_text("3 of 7")
    for words in ("Setup: done", "Workflow: running", "Upload: not reached"):
        expect(rows(page).get_by_title(words)).to_be_visible()
    page.set_viewport_size({"width": 360, "height": 740})
    no_sideways_scrolling(page)


def test_a_group_of_failures_is_looked_at_and_retried(page: Page, server: CrunchServer) -> None:
    page.goto("/projects/birds/")
    page.get_by_role("link", name="Failures", exact=True).click()
    group = page.get_by_role("listitem").filter(has_text="ValueError")
    expect(group).to_contain_text("2 datasets")
    no_sideways_scrolling(page)
    group.get_by_role("link", name="Show them").click()
    expect(rows(page).get_by_role("link")).to_have_text(["Sample 03", "Sample 04"])
    no_sideways_scrolling(page)
    page.go_back()
    group.get_by_role("link", name="Retry 2 datasets").click()
    no_sideways_scrolling(page)
    page.get_by_role("button", name="Retry 2 datasets").click()
    expect(page.get_by_role("status")).to_contain_text("2 failed datasets are unprocessed again")
    expect(page.get_by_role("link", name="failed 1")).to_be_visible()
    with server.client() as api:
        # As it was, for the other tests.
        for key in ("sample-03", "sample-04"):
            fail(api, api.get(f"/api/datasets/birds:{key}/").raise_for_status().json()["id"], key)


def test_hold_and_let_go_what_a_search_found(page: Page) -> None:
    page.goto("/projects/birds/?q=sample-2")
    page.get_by_role("link", name="Hold…").click()
    page.get_by_role("button", name="Hold 10 datasets").click()
    expect(page.get_by_role("status")).to_contain_text("10 datasets are held")
    page.goto("/projects/birds/let-go")
    expect(page.get_by_role("region", name="Which").get_by_role("link")).to_have_count(10)
    page.get_by_role("button", name="Let go 10 datasets").click()
    expect(page.get_by_role("status")).to_contain_text("10 datasets are let go")
