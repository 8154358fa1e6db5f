"""A request's body under ASGI: what is too large, or a stranger's, is refused unread, and a full disk is said."""

from __future__ import annotations

import http.client
import json
import resource
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.servers import CrunchServer, crunch_server

pytestmark = pytest.mark.slow

MIB = 1024 * 1024
GIB = 1024 * MIB
FILE = "/api/datasets/birds:one/files/"
PAGE = "/projects/birds/datasets/birds:one/upload/"
BULK = "/api/projects/birds/datasets/bulk/"
OCTETS = {"Content-Type": "application/octet-stream"}
JSON = {"Content-Type": "application/json"}
FORM = {"Content-Type": "application/x-www-form-urlencoded"}


@pytest.fixture(scope="module")
def temporary(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("temporary")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, temporary: Path) -> Iterator[CrunchServer]:
    folder = tmp_path_factory.mktemp("bodies")
    (folder / "storage").mkdir()
    settings = folder / "storage.toml"
    settings.write_text(f'MEDIA_ROOT = "{folder / "storage"}"\n')
    environment = {"TMPDIR": str(temporary)}
    with crunch_server(
        folder / "server", storage_settings=settings, environment=environment, users=("alice", "bob")
    ) as running:
        with running.client() as alice:
            alice.post("/api/projects/", data={"name": "birds", "visibility": "public"})
            alice.post("/api/datasets/", data={"parent": "birds", "name": "one"})
        yield running


@pytest.fixture
def browser(server: CrunchServer) -> Iterator[httpx.Client]:
    """Alice, signed in on the pages, with what the page's script sends along."""
    with httpx.Client(base_url=server.url, timeout=60) as client:
        form = {"username": "alice", "password": "alice"}
        form["csrfmiddlewaretoken"] = client.get("/accounts/login/").cookies["csrftoken"]
        assert client.post("/accounts/login/", data=form).status_code == 302
        client.headers["X-CSRFToken"] = client.cookies["csrftoken"]
        yield client


def announce(server: CrunchServer, method: str, path: str, length: int, headers: dict[str, str]) -> tuple[Any, str]:
    """The answer, and its text, to a request of which no byte of the body is ever sent."""
    connection = http.client.HTTPConnection(server.host, server.port, timeout=30)
    try:
        connection.request(method, path, headers={**headers, "Content-Length": str(length)})
        answer = connection.getresponse()
        assert answer.headers["Connection"] == "close"
        return answer, answer.read().decode()
    finally:
        connection.close()


@pytest.mark.parametrize(
    ("method", "path", "headers"),
    [
        ("POST", "/nothing", OCTETS),
        ("POST", "/api/nothing/", JSON),
        ("POST", "/api/claims/", JSON),
        ("POST", "/accounts/login/", FORM),
        ("GET", "/", FORM),
    ],
)
def test_what_no_view_takes_is_refused_before_it_is_sent(
    server: CrunchServer, method: str, path: str, headers: dict[str, str]
) -> None:
    answer, text = announce(server, method, path, 99_999_999_999, headers)
    assert answer.status == 413
    sentence = "The request is too large: at most 5242880 bytes."
    if headers is FORM:
        assert sentence in text and "<h1>" in text
    else:
        assert json.loads(text) == {"detail": sentence, "code": "too_large"}
    assert answer.headers["X-Request-ID"]


@pytest.mark.parametrize("token", [{}, {"Authorization": "Token wrong"}, {"Authorization": "Token crunch_wrong"}])
def test_a_stranger_is_refused_as_ever_before_a_large_body_is_sent(server: CrunchServer, token: dict[str, str]) -> None:
    for method, path, kind in (("PUT", f"{FILE}a", OCTETS), ("POST", BULK, JSON)):
        answer, text = announce(server, method, path, 6 * MIB, {**kind, **token})
        assert (answer.status, answer.headers["WWW-Authenticate"]) == (401, "Token")
        assert set(json.loads(text)) == {"detail", "code"}
    assert announce(server, "POST", f"{PAGE}a", 6 * MIB, {**OCTETS, **token})[0].status == 403


def test_who_may_not_edit_is_refused_before_a_large_body_is_sent(server: CrunchServer) -> None:
    server.take_from_staff("bob")
    bob = {"Authorization": f"Token {server.tokens['bob']}"}
    for method, path, kind in (("PUT", f"{FILE}a", OCTETS), ("POST", BULK, JSON)):
        answer, text = announce(server, method, path, 6 * MIB, {**kind, **bob})
        assert (answer.status, "needs the role editor" in json.loads(text)["detail"]) == (403, True)
    assert announce(server, "PUT", "/api/datasets/no:one/files/a", 6 * MIB, {**OCTETS, **bob})[0].status == 404
    with server.client() as alice:
        asked = {"name": "low", "role": "viewer", "expires": "2999-01-01T00:00:00Z"}
        low = {"Authorization": f"Token {alice.post('/api/tokens/', json=asked).json()['token']}"}
    assert announce(server, "PUT", f"{FILE}a", 6 * MIB, {**OCTETS, **low})[0].status == 403


def test_a_call_is_judged_by_its_token_and_a_page_by_its_session(server: CrunchServer, browser: httpx.Client) -> None:
    server.take_from_staff("bob")
    cookies = {"Cookie": "; ".join(f"{name}={value}" for name, value in browser.cookies.items())}
    bob = {"Authorization": f"Token {server.tokens['bob']}"}
    assert announce(server, "PUT", f"{FILE}a", 6 * MIB, {**OCTETS, **cookies, **bob})[0].status == 403
    with httpx.Client(base_url=server.url, timeout=60) as stranger:
        alice = {"Authorization": f"Token {server.tokens['alice']}", **OCTETS}
        assert stranger.put(f"{FILE}by-token", content=bytes(6 * MIB), headers=alice).status_code == 201
    page = {**OCTETS, "Authorization": f"Token {server.tokens['alice']}"}
    assert announce(server, "POST", f"{PAGE}a", 6 * MIB, page)[0].status == 403


def test_a_token_that_has_expired_is_a_strangers(server: CrunchServer) -> None:
    with server.client() as alice:
        made = alice.post(
            "/api/tokens/", json={"name": "old", "role": "editor", "expires": "2999-01-01T00:00:00Z"}
        ).json()
    as_token = {**OCTETS, "Authorization": f"Token {made['token']}"}
    too_large, text = announce(server, "PUT", f"{FILE}a", 6 * GIB, as_token)
    assert (too_large.status, "crunch push" in json.loads(text)["detail"]) == (413, True)
    server.manage("shell", "-c", _EXPIRE)
    expired, text = announce(server, "PUT", f"{FILE}a", 6 * MIB, as_token)
    assert (expired.status, "has expired" in json.loads(text)["detail"]) == (401, True)


_EXPIRE = """
from django.utils import timezone
from server.models import AccessToken
AccessToken.objects.update(expires=timezone.now())
"""


def test_somebody_who_sends_more_than_a_view_takes_is_told_its_limit(server: CrunchServer) -> None:
    token = {"Authorization": f"Token {server.tokens['alice']}"}
    answer, text = announce(server, "POST", BULK, 33 * MIB, {**JSON, **token})
    assert (answer.status, json.loads(text)["detail"]) == (413, f"The request is too large: at most {32 * MIB} bytes.")


def test_a_body_of_no_announced_length_is_counted(server: CrunchServer, temporary: Path) -> None:
    connection = http.client.HTTPConnection(server.host, server.port, timeout=30)
    connection.putrequest("POST", "/api/claims/")
    connection.putheader("Transfer-Encoding", "chunked")
    connection.endheaders()
    # Five of them are taken; the sixth is one too many, and no last one comes.
    for _ in range(6):
        connection.send(b"100000\r\n" + b"x" * MIB + b"\r\n")
    answer = connection.getresponse()
    assert (answer.status, answer.headers["Connection"]) == (413, "close")
    assert "without a Content-Length" in json.loads(answer.read())["detail"]
    connection.close()
    assert list(temporary.iterdir()) == []


def test_large_bodies_of_somebody_are_taken(server: CrunchServer, browser: httpx.Client) -> None:
    data = bytes(range(256)) * (6 * MIB // 256)
    rows = {"datasets": [{"name": "bulk", "details": "x" * 6 * MIB}], "dry_run": True}
    with server.client() as alice:
        put = alice.put(f"{FILE}put?replace=true", content=data, headers=OCTETS)
        assert (put.status_code, put.json()["size"]) == (201, len(data))
        assert alice.get(f"{FILE}put").content == data
        assert alice.post(BULK, json=rows).status_code == 200
    sent = browser.post(f"{PAGE}sent?replace", content=data, headers=OCTETS)
    assert (sent.status_code, sent.json()["size"]) == (201, len(data))


def test_a_temporary_folder_that_is_full_or_gone_is_said(
    server: CrunchServer, browser: httpx.Client, temporary: Path
) -> None:
    def refused(reason: str) -> None:
        with server.client() as alice:
            answers = [
                alice.put(f"{FILE}b", content=b"x" * 6 * MIB, headers=OCTETS),
                browser.post(f"{PAGE}b", content=b"x" * 6 * MIB, headers=OCTETS),
                alice.post("/api/claims/", content=b"x" * 4 * MIB, headers=JSON),
            ]
        for answer in answers:
            assert (answer.status_code, answer.json()["code"]) == (507, "no_room")
            assert f"({reason} in its temporary folder). Tell who runs it" in answer.json()["detail"]
        form = browser.post("/accounts/logout/", content=b"x" * 4 * MIB, headers=FORM)
        assert (form.status_code, "The server has no room to take this in" in form.text) == (507, True)

    assert server.process is not None
    _, hard = resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, (3 * MIB, hard))
    refused("File too large")
    resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, (hard, hard))
    away = temporary.rename(temporary.with_name("away"))
    refused("No such file or directory")
    away.rename(temporary)
    with server.client() as alice:
        assert alice.put(f"{FILE}b", content=b"x" * 6 * MIB, headers=OCTETS).status_code == 201
    assert list(temporary.iterdir()) == []
