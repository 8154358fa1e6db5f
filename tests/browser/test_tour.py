"""Every page in a real Chromium, light on a desktop and dark on a phone: accessible (axe), as wide as the window.

On the desktop its colours are looked at in the dark too.

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

from tests.support.browsing import PNG, no_sideways_scrolling
from tests.support.servers import CrunchServer, crunch_server

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("browser")]

PICTURES = Path(__file__).parents[2] / "docs" / "images" / "pages"
COLOURS = {"runOnly": ["color-contrast"]}
RULES = {"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]}
WORKFLOWS = ("#!/bin/bash\ncount-words songs.txt\n", "#!/bin/bash\ncount-words --by-voice songs.txt\n")
STEPS = [(stage, state) for stage in (1, 2, 3) for state in (1, 2)]
PROJECT = "/projects/songs-of-the-north/"
SLUG = "songs-of-the-north:song-20"
"""The dataset that waits for its run, with files."""
DATASET = f"{PROJECT}datasets/{SLUG}"
PAGES = {
    "projects": "/",
    "project": PROJECT,
    "failures": f"{PROJECT}failures",
    "retry": f"{PROJECT}retry",
    "members": f"{PROJECT}members",
    "changes": f"{PROJECT}changes",
    "workflows": f"{PROJECT}workflows",
    "workflow": f"{PROJECT}workflows/2",
    "map": f"{PROJECT}map",
    "webhooks": f"{PROJECT}webhooks",
    "new-project": "/new-project",
    "edit-project": f"{PROJECT}edit",
    "delete-project": f"{PROJECT}delete",
    "new-dataset": f"{PROJECT}new-dataset",
    "dataset-completed": f"{PROJECT}datasets/songs-of-the-north:song-00",
    "dataset-failed": f"{PROJECT}datasets/songs-of-the-north:song-04",
    "dataset-running": f"{PROJECT}datasets/songs-of-the-north:song-07",
    "dataset-waiting": DATASET,
    "edit-dataset": f"{DATASET}/edit",
    "delete-dataset": f"{DATASET}/delete",
    "text": f"{DATASET}/look/notes/voices.csv",
    "image": f"{DATASET}/look/notes/score.png",
    "item": f"/items/{SLUG}:refrain/",
    "new-item": f"/items/{SLUG}/new-item",
    "edit-item": f"/items/{SLUG}:refrain/edit",
    "new-attribute": f"/items/{SLUG}/new-attribute?kind=lat-long",
    "edit-attribute": f"/items/{SLUG}/attributes/21/edit",
    "delete-attribute": f"/items/{SLUG}/attributes/21/delete",
    "account": "/account/",
    "reference": "/reference/",
    "sign-in": "/accounts/login/",
}
PICTURED = ("projects", "project", "failures", "dataset-failed", "dataset-running", "text", "map", "members")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CrunchServer]:
    """A project in the middle of its work, with members, two versions of its workflow and a token."""
    with crunch_server(tmp_path_factory.mktemp("tour"), users=("alice", "bob")) as running:
        with running.client() as api:
            about = "# About\n\nWho sings **what**, and where. [The field guide](https://example.org) has more."
            new = {"name": "Songs of the North", "description": "Words, counted by voice", "details": about}
            api.post("/api/projects/", json={**new, "workflow": WORKFLOWS[0]}).raise_for_status()
            api.patch("/api/projects/songs-of-the-north/", json={"workflow": WORKFLOWS[1]}).raise_for_status()
            rows = [{"name": f"Song {number:02}", "attributes": [place(number)]} for number in range(24)]
            api.post("/api/projects/songs-of-the-north/datasets/bulk/", json={"datasets": rows}).raise_for_status()
            for number in range(9):
                run(api, number)
            add_to_waiting(api, running.folder / "media")
            api.put("/api/projects/songs-of-the-north/members/bob/", json={"role": "runner"}).raise_for_status()
            api.post("/api/tokens/", json={"name": "cluster"}).raise_for_status()
        yield running


def place(number: int) -> dict[str, Any]:
    """An attribute that scatters the songs over the map."""
    return {"key": "place", "latitude": 60 + number / 2, "longitude": 9 + number % 7}


def add_to_waiting(api: httpx.Client, storage: Path) -> None:
    """Files, an attribute and an item of the dataset whose run is still to come."""
    dataset = api.get(f"/api/datasets/{SLUG}/").raise_for_status().json()
    notes = storage / dataset["base_file_path"] / "notes"
    notes.mkdir(parents=True)
    rows = "".join(f"{verse},alto,{verse * 37 % 211}\n" for verse in range(1, 25))
    (notes / "voices.csv").write_text(f"verse,voice,words\n{rows}")
    (notes / "score.png").write_bytes(PNG)
    api.post("/api/items/", json={"name": "Refrain", "parent": SLUG}).raise_for_status()


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
        lines = "".join(f"song {song:02}: {song * 37 % 211} words, {song % 3 + 2} voices\n" for song in range(1, 9))
        beat = {"fence": claim["fence"], "progress": {"done": number - 5, "total": 7}, "log_tail": lines}
        api.post(f"/api/claims/{claim['claim']}/heartbeat/", json=beat).raise_for_status()


def look(page: Page, name: str, rules: dict[str, list[str]], problems: dict[str, str]) -> None:
    found = Axe().run(page, options=rules)
    if found.violations_count:
        problems[name] = found.generate_report()


def test_every_page_is_accessible_and_as_wide_as_the_window(page: Page, request: pytest.FixtureRequest) -> None:
    size = request.node.callspec.params["page"]
    page.emulate_media(color_scheme="light" if size == "desktop" else "dark")
    problems: dict[str, str] = {}
    for name, path in PAGES.items():
        answer = page.goto(path)
        assert answer is not None and answer.ok, path
        look(page, name, RULES, problems)
        no_sideways_scrolling(page)
        if os.environ.get("CRUNCH_SCREENSHOTS") and name in PICTURED:
            page.screenshot(path=PICTURES / f"{name}-{size}.png")
        if size == "desktop":
            page.emulate_media(color_scheme="dark")
            look(page, f"{name}, dark", COLOURS, problems)
            page.emulate_media(color_scheme="light")
    assert not problems, "\n".join(f"{name}: {report}" for name, report in problems.items())
