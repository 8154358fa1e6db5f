"""What the browser tests look at on every page."""

from __future__ import annotations

from playwright.sync_api import Page


def no_sideways_scrolling(page: Page) -> None:
    assert page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
