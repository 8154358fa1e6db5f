"""What becomes of a claim whose answer was lost: asked for again, and given back, as nobody began it."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest

from crunch_tasks.errors import ServerUnavailable
from crunch_tasks.link.claims import Claims
from crunch_tasks.testing import FakeServer
from flows.leftovers import Leftovers


@pytest.fixture
def fake() -> FakeServer:
    made = FakeServer()
    made.add_project("p")
    made.add_dataset("p", "d")
    return made


def lose_the_answer(fake: FakeServer, claims: Claims) -> None:
    """A command claims, the server grants, and the line breaks; the command ends."""

    def lost(_request: httpx.Request) -> None:
        raise httpx.ReadError("lost")

    fake.after = lost
    with fake.client(patience_s=0) as client, claims.new(project="p") as request, pytest.raises(ServerUnavailable):
        request.send(client)
    fake.after = None
    assert fake.datasets["p:d"]["state"] == "running"


def give_back(fake: FakeServer, claims: Claims, directory: Path) -> list[str]:
    said: list[str] = []
    with fake.client(patience_s=0) as client:
        Leftovers(directory, client, claims, lambda: pytest.fail("no storage"), said.append).give_unanswered_back()
    return said


def test_what_was_granted_is_given_back(fake: FakeServer, tmp_path: Path) -> None:
    claims = Claims(tmp_path, fake.url)
    lose_the_answer(fake, claims)
    (sentence,) = give_back(fake, claims, tmp_path)
    assert sentence.startswith("p:d is given back")
    assert fake.datasets["p:d"]["state"] == "unprocessed"
    assert list(claims.leftovers()) == []


def test_what_was_not_granted_or_has_ended_is_forgotten(fake: FakeServer, tmp_path: Path) -> None:
    claims = Claims(tmp_path, fake.url)
    claims.new(project="nowhere").leave()
    claims.new(dataset="p:nothing").leave()
    assert give_back(fake, claims, tmp_path) == []
    assert list(claims.leftovers()) == []
    assert fake.datasets["p:d"]["state"] == "unprocessed"


def test_what_the_server_does_not_let_go_now_is_left_to_the_next_command(fake: FakeServer, tmp_path: Path) -> None:
    claims = Claims(tmp_path, fake.url)
    lose_the_answer(fake, claims)

    def away(request: httpx.Request) -> None:
        if request.url.path.endswith("/release/"):
            raise httpx.ConnectError("away")

    fake.before = away
    assert give_back(fake, claims, tmp_path) == []
    (request,) = claims.leftovers()
    with request:
        assert request.granted is not None
        assert (request.granted.slug, request.granted.is_given_back) == ("p:d", True)


def test_a_claim_that_is_at_work_or_was_begun_is_left_alone(fake: FakeServer, tmp_path: Path) -> None:
    claims = Claims(tmp_path, fake.url)
    with fake.client() as client:
        lease = claims.new(project="p").send(client)
        assert lease is not None
        assert give_back(fake, claims, tmp_path) == []
        lease.stop()
    assert give_back(fake, claims, tmp_path) == []
    assert fake.datasets["p:d"]["state"] == "running"
