"""A bad line to a real server: every status arrives, once and in order, or waits on the disk and is said to."""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from crunch_tasks.contract import ClaimRequest
from crunch_tasks.errors import ServerError
from crunch_tasks.link.client import CrunchClient
from deployments.local import free_port
from tests.support.depth import whole
from tests.support.proxy import Fault, Proxy, proxy
from tests.support.relay import relay
from tests.support.site import GOOD_RUN, Site, interrupt_twice, until

STATUSES = "/api/statuses/"


@pytest.fixture
def line(site: Site) -> Iterator[Proxy]:
    with proxy(site.server.url) as running:
        yield running


@pytest.fixture
def slug(site: Site) -> str:
    return site.add_dataset(site.add_project("P", "echo made > made.txt\n"), "one", {"input.txt": b"x"})


def left(site: Site) -> list[str]:
    """What waits in the outbox."""
    return sorted(path.name for path in (site.directory / ".state" / "p" / "one" / "outbox").glob("*.json"))


def test_503_lost_answers_and_an_outage_longer_than_the_lease_change_nothing(
    site: Site, line: Proxy, tmp_path: Path
) -> None:
    workflow = f'echo "working on it"\ntouch "{tmp_path}/started"\nuntil [ -e "{tmp_path}/flag" ]; do sleep 0.1; done\n'
    project = site.add_project("P", workflow, lease_seconds=2, visibility="public")
    slug = site.add_dataset(project, "one", {"input.txt": b"x"})
    claiming = [Fault("POST", "/api/claims/", status=503, times=1), Fault("POST", "/api/claims/", lose=True, times=1)]
    busy = Fault("POST", STATUSES, status=503, headers={"Retry-After": "1"}, times=1)
    lost = Fault("POST", STATUSES, lose=True, times=1)
    line.faults = [*claiming, busy, lost]
    client = site.start("next", CRUNCH_URL=line.endpoint)
    until((tmp_path / "started").exists, what="the workflow's start")
    until(lambda: (2, 1) in site.statuses(slug), what="the workflow's Start")
    page = f"{site.server.url}/projects/p/datasets/{slug}"
    until(lambda: "working on it" in httpx.get(page).text, what="the last lines of its output")
    site.server.kill()
    gone = time.monotonic()
    until(lambda: time.monotonic() - gone > 2.5, what="the end of the lease")
    site.server.start()
    (tmp_path / "flag").touch()
    _, err = client.communicate(timeout=60)

    assert client.returncode == 0, err
    assert (busy.seen, lost.seen) == (1, 1)
    assert site.statuses(slug, effective=False) == GOOD_RUN
    assert site.dataset(slug)["state"] == "completed"
    assert left(site) == []


def test_a_server_that_answers_503_for_ever_is_said_and_the_outbox_kept(site: Site, line: Proxy, slug: str) -> None:
    line.faults = [Fault("POST", STATUSES, status=503)]

    said = site.crunch("next", code=1, CRUNCH_URL=line.endpoint, CRUNCH_SERVER_PATIENCE_S="1").stderr

    assert f"The server at {line.endpoint} answers 503" in said
    assert "the next command with this --directory sends" in said
    assert left(site) == [f"1-{stage}-{state}.json" for stage, state in GOOD_RUN]
    assert site.statuses(slug, effective=False) == []

    line.faults = []
    site.crunch("next", code=3, CRUNCH_URL=line.endpoint)
    assert site.statuses(slug, effective=False) == GOOD_RUN
    assert site.dataset(slug)["state"] == "completed"
    assert left(site) == []


class Stranger(BaseHTTPRequestHandler):
    """Somebody else's host; `asked` has the headers of each request that it got."""

    asked: list[dict[str, str]] = []

    def _answer(self) -> None:
        self.asked.append(dict(self.headers))
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(b"<html>Welcome</html>")

    do_GET = do_POST = _answer

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def stranger() -> Iterator[str]:
    Stranger.asked = []
    with ThreadingHTTPServer(("127.0.0.1", 0), Stranger) as server:
        threading.Thread(target=server.serve_forever).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_a_redirect_to_another_host_takes_no_token_there(site: Site, line: Proxy, stranger: str) -> None:
    for status in (301, 302, 307, 308):
        line.faults = [Fault("POST", "/", status=status, headers={"Location": f"{stranger}/api/claims/"})]
        client = CrunchClient(line.endpoint, site.server.tokens["alice"])
        with client, pytest.raises(ServerError, match=f"redirects to {stranger}"):
            client.claim(ClaimRequest("r1"))
    said = site.crunch("next", code=1, CRUNCH_URL=line.endpoint).stderr
    assert f"redirects to {stranger}" in said
    assert Stranger.asked == []


def test_a_page_with_status_200_is_no_server(site: Site, stranger: str, slug: str) -> None:
    said = site.crunch("next", code=1, CRUNCH_URL=stranger).stderr
    assert f"Is there a Crunch server at {stranger}?" in said
    assert len(Stranger.asked) == 1
    assert site.dataset(slug)["state"] == "unprocessed"


@contextlib.contextmanager
def prefect_away(site: Site) -> Iterator[tuple[str, Callable[[bool], None]]]:
    """A Prefect server that can be made to go away, and come back: its address, and what does that."""
    with relay(urlsplit(site.prefect_api).port or 0) as line:
        there = line.target

        def go(away: bool) -> None:
            line.target = free_port() if away else there
            line.cut()

        yield f"{line.url}/api", go


@contextlib.contextmanager
def prefect_busy(site: Site) -> Iterator[tuple[str, Callable[[bool], None]]]:
    """The same of one that answers 503 when flow runs are begun, as it does while its database is slow."""
    with proxy(site.prefect_api.removesuffix("/api")) as line:

        def go(away: bool) -> None:
            line.faults = [Fault("POST", "/api/flow_runs/", status=503)] if away else []

        yield f"{line.endpoint}/api", go


@pytest.mark.parametrize("trouble", [prefect_away, prefect_busy])
def test_a_loop_waits_for_a_prefect_server_that_is_away_or_busy(site: Site, tmp_path: Path, trouble: Any) -> None:
    workflow = f'touch "{tmp_path}/begun"\nuntil [ -e "{tmp_path}/go" ]; do sleep 0.1; done\n'
    project = site.add_project("P", workflow)
    slugs = [site.add_dataset(project, name, {"input.txt": b"x"}) for name in ("one", "two", "three")]
    with trouble(site) as (api, go):
        # Prefect's own patience would take half a minute.
        loop = site.start("loop", "--prefetch", "0", PREFECT_API_URL=api, PREFECT_CLIENT_MAX_RETRIES="0")
        until((tmp_path / "begun").exists, what="the first one's workflow")
        go(True)
        (tmp_path / "go").touch()
        said = loop.stderr
        assert said is not None
        word = "Prefect's server does not answer, or has too much to do. p:two waits"
        until(lambda: word in said.readline(), what="the second one's word")
        go(False)
        _, err = loop.communicate(timeout=120)
    assert loop.returncode == 0, err
    assert "Traceback" not in err
    assert [site.dataset(slug)["state"] for slug in slugs] == ["completed"] * 3
    assert site.statuses(slugs[1], effective=False) == GOOD_RUN


@pytest.mark.parametrize("moment", ["when its workflow has ended", *(["while one computes"] if whole() else [])])
def test_the_second_ctrl_c_gives_everything_back_where_prefect_hangs(site: Site, tmp_path: Path, moment: str) -> None:
    workflow = f'touch "{tmp_path}/begun"\nuntil [ -e "{tmp_path}/go" ]; do sleep 0.1; done\ntouch ended\n'
    project = site.add_project("P", workflow)
    slugs = [site.add_dataset(project, name, {"input.txt": b"x"}) for name in ("one", "two", "three")]
    with relay(urlsplit(site.prefect_api).port or 0) as line:
        loop = site.start("loop", PREFECT_API_URL=f"{line.url}/api")
        until((tmp_path / "begun").exists, what="the first one's workflow")
        until(lambda: (1, 2) in site.statuses(slugs[1]), what="the second one's files")
        line.stall()
        if moment == "when its workflow has ended":
            (tmp_path / "go").touch()
            until(lambda: any(site.directory.glob("p/*/ended")), what="the first one's end")
        interrupt_twice(loop)
        _, err = loop.communicate(timeout=40)
    assert loop.returncode == 128 + signal.SIGINT, err
    assert "Traceback" not in err
    states = {(row["state"], row["attempt"]) for row in map(site.dataset, slugs)}
    # One whose workflow had ended may have been published meanwhile: Prefect is not waited for on the way.
    assert states - {("completed", 0)} == {("unprocessed", 0)}


def test_the_first_ctrl_c_ends_a_loop_that_waits_for_a_server_that_is_away(site: Site, line: Proxy, slug: str) -> None:
    line.faults = [Fault("POST", "/api/claims/", status=503)]
    loop = site.start("loop", CRUNCH_URL=line.endpoint)
    said = loop.stderr
    assert said is not None
    until(lambda: "Trying again in" in said.readline(), what="the loop's patience")
    loop.send_signal(signal.SIGINT)
    _, err = loop.communicate(timeout=60)
    assert "Traceback" not in err
    assert "answers 503" in err
    assert loop.returncode == 128 + signal.SIGINT, err
    assert site.dataset(slug)["state"] == "unprocessed"
