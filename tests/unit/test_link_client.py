"""The client of the server's API: every kind of answer becomes the right value or the right error."""

from __future__ import annotations

import logging

import httpx
import pytest

from crunch_tasks.contract import ATTRIBUTE_KINDS, ClaimRequest
from crunch_tasks.errors import Refused, ServerError, ServerUnavailable, Unauthorized, UsageError
from crunch_tasks.link import backoff
from crunch_tasks.link.client import CrunchClient
from crunch_tasks.testing import FakeServer


@pytest.fixture(autouse=True)
def short_waits(monkeypatch):
    monkeypatch.setattr(backoff, "FIRST_WAIT_S", 0.001)


@pytest.fixture
def server():
    fake = FakeServer()
    fake.add_project("p")
    fake.add_dataset("p", "d")
    return fake


def answering(answer, **options):
    """A client whose server gives one answer to all, and the requests that it got."""
    requests = []

    def handle(request):
        requests.append(request)
        return answer(request) if callable(answer) else answer

    return CrunchClient(
        "https://crunch.test/", "secret-token", transport=httpx.MockTransport(handle), **options
    ), requests


def test_a_claim_comes_with_all_that_a_run_needs_and_again_for_the_same_request(server):
    client = server.client()
    claim = client.claim(ClaimRequest("r1", project="p"))
    assert (claim.slug, claim.fence, claim.project["slug"]) == ("p:d", 1, "p")
    assert client.claim(ClaimRequest("r1", project="p")) == claim
    assert client.claim(ClaimRequest("r2")) is None


@pytest.mark.parametrize("prefix", ["", "/", "/apps/crunch", "/apps/crunch/"])
def test_the_address_may_end_in_a_slash_and_have_a_path(prefix):
    paths = []

    def handle(request):
        paths.append(request.url.path)
        return httpx.Response(200, json={"project": "p", "dataset": "p:d"})

    client = CrunchClient(f"https://crunch.test{prefix}", "t", transport=httpx.MockTransport(handle))
    assert client.next() == client.next("p") == "p:d"
    root = prefix.rstrip("/")
    assert paths == [f"{root}/api/next/", f"{root}/api/projects/p/next/"]


@pytest.mark.parametrize("url", ["", "crunch.test", "ftp://crunch.test", "https://", "http://x:port", "https://a:b@c/"])
def test_what_is_no_web_address_is_wrong_usage(url):
    with pytest.raises(UsageError, match=r"web address|user"):
        CrunchClient(url, "t")


@pytest.mark.parametrize("token", ["", "a b", "ä", "a\nb"])
def test_a_token_that_cannot_be_sent_is_wrong_usage_and_not_shown(token):
    with pytest.raises(UsageError, match="CRUNCH_TOKEN") as caught:
        CrunchClient("http://crunch.test", token)
    assert len(token) < 2 or token not in str(caught.value)


def test_a_redirect_is_an_error_and_the_token_goes_nowhere_else():
    client, requests = answering(httpx.Response(302, headers={"location": "https://evil.test/"}))
    with pytest.raises(ServerError, match=r"https://evil\.test/"):
        client.next()
    assert [request.url.host for request in requests] == ["crunch.test"]


def test_pages_are_followed_on_our_address_only():
    pages = {
        "1": {"results": [{"n": 1}], "next": "http://evil.test/api/statuses/?dataset=7&page=2"},
        "2": {"results": [{"n": 2}], "next": None},
    }
    client, requests = answering(
        lambda request: httpx.Response(200, json=pages[request.url.params.get("page", "1")]), patience_s=0
    )
    assert [row["n"] for row in client.pages("api/statuses/", dataset="7")] == [1, 2]
    assert {(request.url.host, request.url.params["dataset"]) for request in requests} == {("crunch.test", "7")}


@pytest.mark.parametrize(
    "answer",
    [
        httpx.Response(200, html="<html>Welcome</html>"),
        httpx.Response(404, html="<html>nginx</html>"),
        httpx.Response(200, json=[1]),
        httpx.Response(200),
    ],
)
def test_what_is_no_crunch_server_is_said_so(answer):
    client, requests = answering(answer)
    with pytest.raises(ServerError, match=r"https://crunch\.test") as caught:
        client.get_dataset("p:d")
    assert not isinstance(caught.value, Refused | ServerUnavailable)
    assert len(requests) == 1


def test_a_wrong_token_is_told_at_once(server):
    with pytest.raises(Unauthorized, match="CRUNCH_TOKEN"):
        server.client("stale").next()
    assert len(server.requests) == 1


def test_an_unknown_slug_is_refused_with_the_servers_sentence(server):
    with pytest.raises(Refused, match=r"There is no dataset 'p:x'\.") as caught:
        server.client().claim(ClaimRequest("r", dataset="p:x"))
    assert (caught.value.status, caught.value.code) == (404, "not_found")


def test_the_errors_of_fields_become_one_sentence():
    problem = {"name": ["This field is required."], "non_field_errors": ["No."], "at": {"lat": ["Too far north."]}}
    client, _ = answering(httpx.Response(400, json=problem))
    with pytest.raises(Refused) as caught:
        client.create_project(name="")
    assert str(caught.value) == "name: This field is required. No. at: lat: Too far north."


def test_a_server_that_comes_back_is_asked_again(server):
    broken = [httpx.ConnectError("refused"), httpx.ReadTimeout("slow"), httpx.Response(503), httpx.Response(429)]

    def before(request):
        if not broken:
            return None
        fault = broken.pop(0)
        if isinstance(fault, Exception):
            raise fault
        return fault

    server.before = before
    assert server.client().get_project("p")["slug"] == "p"
    assert len(server.requests) == 5


def test_a_server_that_stays_away_ends_in_a_clear_error():
    client, requests = answering(httpx.Response(503), patience_s=0.05)
    with pytest.raises(ServerUnavailable, match=r"https://crunch\.test answers 503.* Asked for 0\.05 s"):
        client.next()
    assert len(requests) > 1


@pytest.mark.parametrize(
    ("headers", "least"),
    [
        ({"retry-after": "7"}, 7),
        ({"retry-after": "Mon, 01 Jan 2001 00:00:09 GMT", "date": "Mon, 01 Jan 2001 00:00:00 GMT"}, 9),
        ({"retry-after": "soon"}, 0),
    ],
)
def test_retry_after_is_honoured_by_the_servers_clock(monkeypatch, headers, least):
    waits = []
    monkeypatch.setattr("threading.Event.wait", lambda _, timeout: waits.append(timeout))
    answers = [httpx.Response(503, headers=headers), httpx.Response(200, json={"dataset": ""})]
    client, _ = answering(lambda request: answers.pop(0))
    assert client.next() == ""
    assert len(waits) == 1
    assert least <= waits[0] < least + 1


def test_no_wait_is_told_as_one_of_0_seconds(caplog):
    client, requests = answering(httpx.Response(503), patience_s=0.05)
    with caplog.at_level(logging.WARNING, logger="crunch"), pytest.raises(ServerUnavailable):
        client.next()
    assert len(caplog.messages) == len(requests) - 1
    assert {message.rpartition(". ")[2] for message in caplog.messages} == {"Trying again in 1 s."}


def test_a_wait_longer_than_our_patience_is_not_begun():
    client, requests = answering(httpx.Response(503, headers={"retry-after": "3600"}), patience_s=60)
    with pytest.raises(ServerUnavailable) as caught:
        client.next()
    assert caught.value.retry_after_s == 3600
    assert len(requests) == 1


def test_nothing_is_created_twice_when_the_answer_is_lost(server):
    def after(request):
        raise httpx.ReadError("reset")

    server.after = after
    with pytest.raises(ServerUnavailable, match="may have been done"):
        server.client().create_dataset(parent="p", name="new")
    assert len(server.requests) == 1


def test_items_and_every_kind_of_attribute_go_to_their_address(server):
    client = server.client()
    client.create_item(parent="p:d", name="i")
    for kind in ATTRIBUTE_KINDS:
        client.create_attribute(kind.name, item="p:d:i", key="k", **dict.fromkeys(kind.fields, 1))
    assert [where for where, _ in server.added] == ["items", *(f"attributes/{kind.name}" for kind in ATTRIBUTE_KINDS)]


def test_a_slug_from_anywhere_stays_one_part_of_the_path():
    client, requests = answering(httpx.Response(200, json={}))
    client.get_dataset("../users/1?x#y")
    assert requests[0].url.raw_path == b"/api/datasets/..%2Fusers%2F1%3Fx%23y/"


def test_the_token_is_in_no_repr_and_no_log(caplog):
    caplog.set_level(logging.DEBUG)
    client, _ = answering(httpx.Response(503), patience_s=0)
    with pytest.raises(ServerUnavailable) as caught:
        client.next()
    assert "secret-token" not in caplog.text + repr(client) + repr(caught.value) + str(caught.value)
