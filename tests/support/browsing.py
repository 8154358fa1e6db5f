"""How Chromium is started, and what the browser tests look at on every page."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
from playwright.sync_api import Locator, Page

Make = Callable[..., dict[str, Any]]
"""Of the fixture `make`: makes a thing of a kind of the API with these values."""

# The last ones keep it from calling home, where there is no network to call through.
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"]
FLAGS += ["--disable-background-networking", "--disable-component-update", "--disable-sync"]

PNG = bytes.fromhex(
    "89504e470d0a1a0a0000000d4948445200000001000000010806000000"
    "1f15c4890000000d49444154789c63f8cfc0f01f00050001ff56c72f0d0000000049454e44ae426082"
)
"""One dot."""


def no_sideways_scrolling(page: Page) -> None:
    assert page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")


def drop(page: Page, files: dict[str, str]) -> None:
    """Drop files, text by name, on a dataset's page."""
    transfer = page.evaluate_handle(
        """files => {
            const transfer = new DataTransfer();
            for (const [name, text] of Object.entries(files)) transfer.items.add(new File([text], name));
            return transfer;
        }""",
        files,
    )
    form = page.get_by_role("form", name="Add files")
    form.dispatch_event("dragover", {"dataTransfer": transfer})
    form.dispatch_event("drop", {"dataTransfer": transfer})


def drop_paths(page: Page, paths: list[Path]) -> None:
    """Drop files and folders of this machine on a dataset's page, as from a file manager."""
    form = page.get_by_role("form", name="Add files")
    form.scroll_into_view_if_needed()
    box = form.bounding_box()
    assert box is not None
    session = page.context.new_cdp_session(page)
    data = {"items": [], "files": [str(path) for path in paths], "dragOperationsMask": 1}
    for kind in ("dragEnter", "dragOver", "drop"):
        place = {"x": box["x"] + box["width"] / 2, "y": box["y"] + box["height"] / 2}
        session.send("Input.dispatchDragEvent", {"type": kind, "data": data, **place})


# --- open pages that stay fresh ---


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


def it_waits(page: Page) -> Locator:
    return page.get_by_text("The part that you are using")


def address_of(dataset: dict[str, Any]) -> str:
    return f"/projects/{dataset['parent']}/datasets/{quote(dataset['slug'])}"


def report(api: httpx.Client, dataset: dict[str, Any], stage: int, state: int, **values: Any) -> None:
    """A status of the dataset, as an old client sends it."""
    body = {"dataset": dataset["id"], "stage": stage, "state": state, **values}
    api.post("/api/statuses/", json=body).raise_for_status()
