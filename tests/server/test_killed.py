"""The server is killed while it answers: what was done stays, what was not is undone, and asking again is safe."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from crunch_tasks.contract import ClaimRequest, Stage, State, StatusEvent
from crunch_tasks.crash import SERVER_POINTS, VARIABLE, Point
from crunch_tasks.errors import ServerUnavailable
from crunch_tasks.link.client import CrunchClient
from tests.support.servers import CrunchServer, crunch_server
from tests.support.site import GOOD_RUN

pytestmark = pytest.mark.slow


@pytest.fixture(params=["sqlite", "postgresql"])
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[CrunchServer]:
    """It ends at its first claim."""
    url = request.getfixturevalue("cluster").new_database() if request.param == "postgresql" else ""
    ends = ends_at(Point.CLAIM_TAKEN)
    with crunch_server(tmp_path / "server", database_url=url, environment=ends, users=("alice",)) as running:
        yield running


def ends_at(point: Point, number: int = 1) -> dict[str, str]:
    return {VARIABLE: f"{point}:{number}"}


def killed_by(server: CrunchServer, call: Callable[[], Any], then: dict[str, str]) -> None:
    """Make the call, which the server does not survive, and start the server again with the environment `then`."""
    assert server.process is not None
    with pytest.raises(ServerUnavailable):
        call()
    assert server.process.wait(10) == -signal.SIGKILL
    server.environment = then
    server.start()


def test_a_server_that_is_killed_at_any_of_its_points_loses_and_doubles_nothing(server: CrunchServer) -> None:
    assert {Point.CLAIM_TAKEN, Point.CLAIM_GRANTED, Point.STATUS_KEPT, Point.STATUS_TAKEN} == SERVER_POINTS
    with CrunchClient(server.url, server.tokens["alice"], patience_s=0) as client:
        client.create_project(name="Birds", workflow="true\n", max_attempts=1)
        for name in ("One", "Two"):
            client.create_dataset(parent="birds", name=name)

        wish = ClaimRequest("once", project="birds")
        killed_by(server, lambda: client.claim(wish), ends_at(Point.CLAIM_GRANTED))
        assert client.get_dataset("birds:one")["state"] == "unprocessed"
        killed_by(server, lambda: client.claim(wish), ends_at(Point.STATUS_KEPT, 6))
        assert client.get_dataset("birds:one")["state"] == "running"
        claim = client.claim(wish)
        assert claim is not None
        assert (claim.slug, claim.fence) == ("birds:one", 1)
        assert client.claim(wish) == claim
        assert client.next() == "birds:two"

        def rows() -> list[tuple[int, int, bool]]:
            found = client.pages("api/statuses/", dataset=str(claim.dataset["id"]))
            return [(row["stage"], row["state"], row["effective"]) for row in found]

        ours = {"site": claim.site, "claim": claim.claim, "fence": claim.fence, "dataset": claim.dataset["id"]}
        for stage, state in GOOD_RUN[:-1]:
            client.post_status(StatusEvent(f"{stage}-{state}", **ours, stage=Stage(stage), state=State(state)))
        commit = StatusEvent("commit", **ours, stage=Stage.UPLOAD, state=State.SUCCESS, manifest_sha256="ab" * 32)
        killed_by(server, lambda: client.post_status(commit), ends_at(Point.STATUS_TAKEN))
        assert (client.get_dataset("birds:one")["state"], len(rows())) == ("running", 5)
        killed_by(server, lambda: client.post_status(commit), {})
        assert client.get_dataset("birds:one")["state"] == "completed"
        first = client.post_status(commit)
        assert client.post_status(commit) == first
        assert first["effective"]
        assert rows() == [(*step, True) for step in GOOD_RUN]
