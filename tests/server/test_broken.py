"""What is said when the database does not answer, or when the server has an error of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

import pytest
from django.contrib.auth.models import User
from django.db import OperationalError, connection
from django.test import Client
from rest_framework.authtoken.models import Token

from server.models import Project

CALLS = [("GET", "/api/projects/"), ("GET", "/api/datasets/birds:one/"), ("POST", "/api/claims/")]


@pytest.fixture
def ask(alice: User, project: Project) -> Callable[[str, str], Any]:
    """What the server answers to somebody who is signed in and has a token."""
    client = Client(raise_request_exception=False)
    client.force_login(alice)
    token = {"Authorization": f"Token {Token.objects.create(user=alice).key}"}
    return lambda method, path: client.generic(method, path, "{}", content_type="application/json", headers=token)


@contextmanager
def breaking(error: Exception) -> Iterator[None]:
    """Every query raises this."""

    def no_answer(*_: Any) -> NoReturn:
        raise error

    with connection.execute_wrapper(no_answer):
        yield


@pytest.mark.parametrize(("method", "path"), [*CALLS, ("GET", "/projects/birds")])
def test_a_database_that_does_not_answer_is_told_as_such(
    ask: Callable[[str, str], Any], method: str, path: str
) -> None:
    with breaking(OperationalError("could not connect to server at db.example as user:secret")):
        answer = ask(method, path)
    assert (answer.status_code, answer["Retry-After"]) == (503, "5")
    assert "database does not answer. Try again" in answer.content.decode() and b"secret" not in answer.content
    if path.startswith("/api/"):
        assert answer.json()["code"] == "busy"


def test_an_error_of_the_server_is_a_sentence_for_programs_and_a_page_for_people(
    ask: Callable[[str, str], Any],
) -> None:
    with breaking(RuntimeError("secret")):
        told, shown = ask("GET", "/api/projects/"), ask("GET", "/projects/birds")
    assert (told.status_code, told.json()["code"], shown.status_code) == (500, "error", 500)
    for answer in (told, shown):
        assert "nothing that was saved is lost" in answer.content.decode() and b"secret" not in answer.content
