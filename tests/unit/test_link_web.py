"""A workflow that is kept at a web address: its bytes, or what kept them from coming."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from crunch_tasks.errors import ServerError, ServerUnavailable
from crunch_tasks.link import web
from crunch_tasks.link.web import fetch_workflow

WORKFLOW = b"#!/bin/bash\r\necho \xc3\xa4 \n\n"


class Pages(BaseHTTPRequestHandler):
    """A site with a workflow, a redirect to it, an endless page, and answers by their number."""

    seen: list[dict[str, str]] = []

    def do_GET(self) -> None:
        self.seen.append(dict(self.headers))
        name = self.path.strip("/")
        self.send_response({"moved": 302}.get(name, int(name) if name.isdigit() else 200))
        self.send_header("Location", "/workflow")
        self.end_headers()
        if name == "workflow":
            self.wfile.write(WORKFLOW)
        elif name == "endless":
            self.wfile.write(b"x" * (web.MAX_BYTES + 1))

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def site() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Pages) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("path", ["workflow", "moved"])
def test_the_bytes_come_as_they_are_and_no_token_goes_there(site: str, path: str) -> None:
    Pages.seen.clear()
    assert fetch_workflow(f"{site}/{path}") == WORKFLOW
    assert Pages.seen and all("Authorization" not in headers for headers in Pages.seen)


@pytest.mark.parametrize(("path", "retryable", "said"), [("404", False, "404"), ("503", True, "503")])
def test_an_answer_that_is_none_is_told(site: str, path: str, retryable: bool, said: str) -> None:
    with pytest.raises(ServerError, match=said) as caught:
        fetch_workflow(f"{site}/{path}")
    assert caught.value.retryable is retryable
    assert f"{site}/{path}" in str(caught.value)


def test_more_than_a_workflow_can_be_is_refused(site: str) -> None:
    with pytest.raises(ServerError, match="larger than"):
        fetch_workflow(f"{site}/endless")


def test_a_host_that_does_not_answer_may_answer_later() -> None:
    with pytest.raises(ServerUnavailable, match="cannot be fetched"):
        fetch_workflow("http://127.0.0.1:1/workflow")


def test_a_page_that_drips_is_given_up(site: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web, "TOTAL_S", -1.0)
    with pytest.raises(ServerUnavailable, match="did not come within"):
        fetch_workflow(f"{site}/workflow")
