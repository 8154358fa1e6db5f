"""A real Chromium, in which alice is signed in to the server of the module (its fixture `server`)."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, StorageState, expect, sync_playwright

from tests.support.browsing import FLAGS, Make
from tests.support.servers import CrunchServer, crunch_server

SIZES = {"desktop": {"width": 1280, "height": 900}, "phone": {"width": 390, "height": 844}}


def chromium() -> str:
    """Where Chromium is. Without it the tests fail where it could be installed, and are skipped elsewhere."""
    if found := shutil.which("chromium"):
        return found
    if os.geteuid() == 0 and shutil.which("apt-get"):
        pytest.fail("There is no chromium. Install it with `make browser`.")
    pytest.skip("There is no chromium, and no right to install it.")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    path = chromium()
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=path, args=FLAGS)
        yield running
        running.close()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CrunchServer]:
    """A server on which alice may what her role lets her; modules that need another one have it under this name."""
    with crunch_server(tmp_path_factory.mktemp("server"), users=("alice", "bob")) as running:
        running.take_from_staff("alice")
        yield running


@pytest.fixture(scope="module")
def session(browser: Browser, server: CrunchServer) -> StorageState:
    """Alice's cookies, got by signing in through the form."""
    context = browser.new_context(base_url=server.url)
    page = context.new_page()
    page.goto("/")
    page.get_by_role("link", name="Sign in").click()
    page.get_by_label("Name").fill("alice")
    page.get_by_label("Password").fill("alice")
    page.get_by_role("main").get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("button", name="Sign out")).to_be_visible()
    state = context.storage_state()
    context.close()
    return state


@pytest.fixture(params=sorted(SIZES))
def page(
    request: pytest.FixtureRequest, browser: Browser, server: CrunchServer, session: StorageState
) -> Iterator[Page]:
    """Alice's browser, on the list of projects. The test fails when the console has an error or a CSP violation."""
    context = browser.new_context(viewport=SIZES[request.param], base_url=server.url, storage_state=session)
    problems: list[str] = []

    def heard(message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            problems.append(message.text)

    opened = context.new_page()
    opened.on("console", heard)
    opened.on("pageerror", lambda error: problems.append(str(error)))
    opened.on("dialog", lambda dialog: problems.append(f"a dialog opened: {dialog.message}"))
    opened.goto("/")
    yield opened
    context.close()
    assert problems == []


@pytest.fixture
def unwatched(browser: Browser, server: CrunchServer, session: StorageState) -> Iterator[Page]:
    """As the fixture `page`, on a phone; the browser itself writes into its console when somebody refused."""
    context = browser.new_context(viewport=SIZES["phone"], base_url=server.url, storage_state=session)
    yield context.new_page()
    context.close()


@pytest.fixture
def api(server: CrunchServer) -> Iterator[httpx.Client]:
    """Alice's client."""
    with server.client() as client:
        yield client


@pytest.fixture
def make(api: httpx.Client) -> Make:
    def made(kind: str, **values: Any) -> dict[str, Any]:
        found: dict[str, Any] = api.post(f"/api/{kind}/", json=values).raise_for_status().json()
        return found

    return made


@pytest.fixture
def dataset(make: Make, request: pytest.FixtureRequest) -> dict[str, Any]:
    """A dataset in a project of the test's own."""
    project = make("projects", name=re.sub(r"\W+", " ", request.node.name), workflow="#!/bin/bash\n")
    return make("datasets", name="Egg", parent=project["slug"])
