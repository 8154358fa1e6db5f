"""Nobody can guess passwords in a row: neither for one name, nor from one address, nor many at once."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.http import HttpResponse
from django.test import Client
from django.utils import timezone

from server.models import SignInAttempt
from server.models.sign_in import WINDOW
from server.operations.sign_in import LIMIT
from tests.support.calls import signed_in

RIGHT = "a right password"
HERE, THERE = "192.0.2.1", "192.0.2.2"


@pytest.fixture(autouse=True)
def people(db: None, settings: Any) -> None:
    # The real one takes its time, for each of many attempts.
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
    for name in ("alice", "bob"):
        User.objects.create_user(name, password=RIGHT)
    User.objects.create_superuser("root", password=RIGHT)


def sign_in(name: str, password: str = "wrong", address: str = HERE, where: str = "/accounts/login/") -> HttpResponse:
    return Client(REMOTE_ADDR=address).post(where, {"username": name, "password": password})  # type: ignore[return-value]


def later(**passed: int) -> None:
    SignInAttempt.objects.update(at=timezone.now() - dt.timedelta(**passed))


def test_after_ten_failures_a_name_has_to_wait_wherever_it_comes_from() -> None:
    for number in range(LIMIT):
        assert sign_in("alice" if number % 2 else " ALICE", address=f"198.51.100.{number}").status_code == 200
    later(minutes=3)
    for where in ("/accounts/login/", "/admin/login/"):
        refused = sign_in("alice", RIGHT, where=where)
        assert refused.status_code == 429
        assert 100 < int(refused.headers["Retry-After"]) <= 120
        assert b"Try again in 2 minutes" in refused.content
    # Others may sign in, and so may she when it is over: what was refused made it no longer.
    assert sign_in("bob", RIGHT).status_code == 302
    later(minutes=5, seconds=1)
    assert sign_in("alice", RIGHT).status_code == 302


def test_after_ten_failures_an_address_has_to_wait_whatever_the_names() -> None:
    for number in range(LIMIT):
        assert sign_in(f"guess{number}", where="/admin/login/").status_code == 200
    assert sign_in("bob", RIGHT).status_code == 429
    assert sign_in("bob", RIGHT, address=THERE).status_code == 302
    for number in range(LIMIT):
        sign_in(f"other{number}", address=f"2001:db8::{number}")
    assert sign_in("bob", RIGHT, address="2001:db8::ffff").status_code == 429
    assert sign_in("bob", RIGHT, address="2001:db8:0:1::1").status_code == 302


def test_who_knows_the_password_is_never_held_up() -> None:
    for _ in range(2 * LIMIT):
        assert sign_in("alice", RIGHT).status_code == 302
    for _ in range(LIMIT - 1):
        sign_in("alice")
    assert sign_in("alice", RIGHT).status_code == 302
    # Forgiven are the failures of the name, not those of the address: else one's own account would buy more guesses.
    sign_in("bob")
    assert sign_in("bob", RIGHT).status_code == 429
    # A proxy that does not tell for whom it asks is not held for one guesser.
    for number in range(LIMIT + 1):
        assert sign_in(f"guess{number}", address="127.0.0.1").status_code == 200


def test_tokens_and_those_who_are_in_go_on() -> None:
    browser = Client(REMOTE_ADDR=HERE)
    browser.force_login(User.objects.get(username="alice"))
    for _ in range(LIMIT + 1):
        last = sign_in("alice")
    assert last.status_code == 429
    assert browser.get("/account/").status_code == 200
    assert signed_in(User.objects.get(username="alice")).get("/api/next/", REMOTE_ADDR=HERE).status_code == 200
    assert Client(REMOTE_ADDR=HERE).get("/accounts/login/").status_code == 200


def test_what_was_typed_is_not_kept_and_old_attempts_go() -> None:
    sign_in("my password by mistake")
    assert len(SignInAttempt.objects.all()) == 2
    assert not any(HERE in row.who or "password" in row.who for row in SignInAttempt.objects.all())
    later(seconds=WINDOW.total_seconds() + 1)  # type: ignore[arg-type]
    sign_in("alice")
    assert SignInAttempt.objects.count() == 2


@pytest.mark.parametrize("where", ["/accounts/login/", "/admin/login/"])
@pytest.mark.parametrize(
    "sent",
    [
        {"data": {}},
        {"data": {"username": "\x00", "password": "\x00"}},
        {"data": {"username": "a" * 100_000, "password": "x"}},
        {"data": b"username=%ff%ed%a0%80&password=", "content_type": "application/x-www-form-urlencoded"},
        {"data": b'{"username": [1]}', "content_type": "application/json"},
        {"data": {"username": ["alice", "bob"], "password": "x"}, "REMOTE_ADDR": "unix:"},
        {"data": {"username": "x", "password": "x"}, "REMOTE_ADDR": "fe80::1%eth0"},
    ],
)
def test_nothing_that_is_sent_is_a_server_error(where: str, sent: dict[str, Any]) -> None:
    answer = Client(HTTP_X_REQUEST_ID="\n<script>").post(where, **sent)
    assert answer.status_code == 200
    assert "script" not in answer.headers["X-Request-ID"]
