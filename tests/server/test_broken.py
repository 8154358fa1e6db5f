"""What is said when the database does not answer, or when the server has an error of its own."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

import pytest
from django.contrib.auth.models import User
from django.db import OperationalError, connection
from django.test import Client
from django.urls import include, path
from rest_framework.authtoken.models import Token

from server.models import Project

handler500 = "server.operations.broken.broken"
urlpatterns = [path("deep/crunch/", include("server.urls"))]
"""Those of a site that has the app somewhere below."""

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


@pytest.mark.parametrize(("method", "where"), [*CALLS, ("GET", "/projects/birds")])
def test_a_database_that_does_not_answer_is_told_as_such(
    ask: Callable[[str, str], Any], method: str, where: str
) -> None:
    with breaking(OperationalError("could not connect to server at db.example as user:secret")):
        answer = ask(method, where)
    assert (answer.status_code, answer["Retry-After"]) == (503, "5")
    text = answer.content.decode()
    assert "database does not answer as it should. Try again" in text and "secret" not in text
    if where.startswith("/api/"):
        assert answer.json().get("code") == (None if method == "GET" else "busy")
    else:
        assert "crunch.css" in text and "Status 503" in text


def test_an_error_of_the_server_is_a_sentence_for_programs_and_a_page_for_people(
    ask: Callable[[str, str], Any],
) -> None:
    with breaking(RuntimeError("secret")):
        told, shown = ask("GET", "/api/projects/"), ask("GET", "/projects/birds")
    assert (told.status_code, list(told.json()), shown.status_code) == (500, ["detail"], 500)
    for answer in (told, shown):
        assert "nothing that was saved is lost" in answer.content.decode() and b"secret" not in answer.content


def test_a_table_that_is_missing_is_no_database_that_comes_back_by_itself(ask: Callable[[str, str], Any]) -> None:
    missing = OperationalError("no such table: server_project")
    with sqlite3.connect(":memory:") as empty, pytest.raises(sqlite3.OperationalError) as raised:
        empty.execute("SELECT * FROM server_project")
    missing.__cause__ = raised.value
    with breaking(missing):
        assert ask("GET", "/api/projects/").status_code == 500


@pytest.mark.urls(__name__)
def test_under_a_prefix_too(ask: Callable[[str, str], Any]) -> None:
    with breaking(OperationalError("away")):
        answer = ask("POST", "/deep/crunch/api/claims/")
    assert (answer.status_code, answer.json()["code"]) == (503, "busy")
