"""Every page in a real Chromium, light on a desktop and dark on a phone: accessible (axe), as wide as the window.

`make screenshots` has it take the pictures of docs/pages.md too.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page

from tests.support.browsing import no_sideways_scrolling
from tests.support.servers import CrunchServer, crunch_server

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("browser")]

PICTURES = Path(__file__).parents[2] / "docs" / "images" / "pages"
RULES = {"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]}
WORKFLOWS = ("#!/bin/bash\ncount-words songs.txt\n", "#!/bin/bash\ncount-words --by-voice songs.txt\n")
STEPS = [(stage, state) for stage in (1, 2, 3) for state in (1, 2)]
PROJECT = "/projects/songs-of-the-north/"
PAGES = {
    "projects": "/",
    "project": PROJECT,
    "failures": f"{PROJECT}failures",
    "retry": f"{PROJECT}retry",
    "members": f"{PROJECT}members",
    "changes": f"{PROJECT}changes",
    "workflows": f"{PROJECT}workflows",
    "dataset-completed": f"{PROJECT}datasets/songs-of-the-north:song-00",
    "dataset-failed": f"{PROJECT}datasets/songs-of-the-north:song-04",
    "account": "/account/",
    "reference": "/reference/",
}
PICTURED = ("projects", "project", "failures", "dataset-failed", "members")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CrunchServer]:
    """A project in the middle of its work, with members, two versions of its workflow and a token."""
    with crunch_server(tmp_path_factory.mktemp("tour"), users=("alice", "bob")) as running:
        with running.client() as api:
            about = "# About\n\nWho sings **what**, and where. [The field guide](https://example.org) has more."
            new = {"name": "Songs of the North", "description": "Words, counted by voice", "details": about}
            api.post("/api/projects/", json={**new, "workflow": WORKFLOWS[0]}).raise_for_status()
            api.patch("/api/projects/songs-of-the-north/", json={"workflow": WORKFLOWS[1]}).raise_for_status()
            rows = [
                {"name": f"Song {number:02}", "attributes": [{"key": "place", "latitude": 60 + number, "longitude": 9}]}
                for number in range(24)
            ]
            api.post("/api/projects/songs-of-the-north/datasets/bulk/", json={"datasets": rows}).raise_for_status()
            for number in range(9):
                run(api, number)
            api.put("/api/projects/songs-of-the-north/members/bob/", json={"role": "runner"}).raise_for_status()
            api.post("/api/tokens/", json={"name": "cluster"}).raise_for_status()
        yield running


def run(api: httpx.Client, number: int) -> None:
    """One that is completed, or every fifth one fails; the last two are still running."""
    body = {"request_id": f"r{number}", "project": "songs-of-the-north"}
    claim: dict[str, Any] = api.post("/api/claims/", json=body).raise_for_status().json()
    steps = STEPS if number < 7 else STEPS[: number - 4]
    if number % 5 == 4:
        steps = [*STEPS[:3], (2, 3)]
    for place, (stage, state) in enumerate(steps):
        event = {"dataset": claim["dataset"]["id"], "claim": claim["claim"], "fence": claim["fence"]}
        event |= {"event_id": f"e{number}-{place}", "stage": stage, "state": state, "hostname": "node1"}
        event |= {"note": "ValueError: songs.txt has no voice" if state == 3 else ""}
        event |= {"manifest_sha256": "ab" * 32 if (stage, state) == (3, 2) else ""}
        api.post("/api/statuses/", json=event).raise_for_status()
    if number >= 7:
        beat = {"fence": claim["fence"], "progress": {"done": number - 5, "total": 7}}
        api.post(f"/api/claims/{claim['claim']}/heartbeat/", json=beat).raise_for_status()


def test_every_page_is_accessible_and_as_wide_as_the_window(page: Page, request: pytest.FixtureRequest) -> None:
    size = request.node.callspec.params["page"]
    page.emulate_media(color_scheme="light" if size == "desktop" else "dark")
    problems = {}
    for name, path in PAGES.items():
        page.goto(path)
        found = Axe().run(page, options=RULES)
        if found.violations_count:
            problems[name] = found.generate_report()
        no_sideways_scrolling(page)
        if os.environ.get("CRUNCH_SCREENSHOTS") and name in PICTURED:
            page.screenshot(path=PICTURES / f"{name}-{size}.png")
    assert problems == {}
