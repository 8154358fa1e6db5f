"""Pictures of Prefect's own pages of a run, taken in a real Chromium."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx
from playwright.sync_api import ViewportSize, sync_playwright

from tests.support.browsing import FLAGS

SIZE: ViewportSize = {"width": 1280, "height": 900}
SETTLE_MS = 3000
"""Prefect's pages go on loading, and its graph moving, for a while after the network is quiet."""


def take_pictures(api: str, folder: Path) -> None:
    """A PNG for each page; `api` is the address of Prefect's API. Raises FileNotFoundError without Chromium."""
    folder.mkdir(parents=True, exist_ok=True)
    found = shutil.which("chromium")
    if found is None:
        raise FileNotFoundError("There is no chromium. Install it with `make browser`.")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=FLAGS)
        page = browser.new_page(viewport=SIZE)
        for name, (path, tab) in pages(api).items():
            page.goto(api.removesuffix("/api") + path, wait_until="load")
            if tab:
                page.get_by_text(tab, exact=True).first.click()
            page.wait_for_timeout(SETTLE_MS)
            page.screenshot(path=folder / f"{name}.png")
        browser.close()


def pages(api: str) -> dict[str, tuple[str, str]]:
    """The path of each page below the server's address, and the tab to open there, if any."""
    by_dispatch = one_of(api, {"deployments": {"name": {"any_": ["run"]}}, **COMPLETED})
    by_schedule = one_of(api, {"deployments": {"name": {"like_": "next"}}, **COMPLETED})
    of_dataset = one_of(api, {"flows": {"name": {"any_": ["dataset"]}}, **COMPLETED})
    return {
        "dashboard": ("/dashboard", ""),
        "runs": ("/runs?tab=flow-runs", ""),
        "crashed": ("/runs?tab=flow-runs&state=Crashed", ""),
        "run-of-dispatch": (f"/runs/flow-run/{by_dispatch}", ""),
        "run-of-schedule": (f"/runs/flow-run/{by_schedule}", ""),
        "dataset": (f"/runs/flow-run/{of_dataset}", ""),
        "artifacts": (f"/runs/flow-run/{of_dataset}", "Artifacts"),
        "deployments": ("/deployments", ""),
        "pool": ("/work-pools/work-pool/crunch", ""),
        "pool-workers": ("/work-pools/work-pool/crunch", "Workers"),
        "automations": ("/automations", ""),
    }


COMPLETED: Mapping[str, Any] = {
    "flow_runs": {"state": {"type": {"any_": ["COMPLETED"]}}},
    "sort": "END_TIME_DESC",
    "limit": 1,
}


def one_of(api: str, query: Mapping[str, Any]) -> str:
    """The id of a flow run. Raises IndexError when there is none."""
    return str(httpx.post(f"{api}/flow_runs/filter", json=dict(query)).raise_for_status().json()[0]["id"])
