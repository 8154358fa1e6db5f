"""What a caller may not see is not there, and a word that is not understood does nothing."""

from __future__ import annotations

from typing import Any

import pytest
from django.test import Client

from tests.server.test_permissions import World
from tests.support.calls import signed_in

pytestmark = pytest.mark.django_db


@pytest.mark.parametrize(
    ("path", "body", "named"),
    [
        ("/api/datasets/", {"parent": "birds", "name": "q"}, "birds"),
        ("/api/items/", {"parent": "birds:one", "name": "q"}, "birds:one"),
        ("/api/attributes/char/", {"item": "birds:one", "key": "q", "value": "x"}, "birds:one"),
        ("/api/tokens/", {"name": "t", "project": "birds"}, "birds"),
        ("/api/statuses/", {"dataset": 0, "stage": 1, "state": 1}, ""),
        ("/api/claims/", {"request_id": "r", "project": "birds"}, "birds"),
    ],
)
def test_a_stranger_cannot_tell_what_is_hidden_from_what_is_not_there(
    path: str, body: dict[str, Any], named: str
) -> None:
    world = World("private")
    hidden = {**body, "dataset": world.dataset.pk} if "dataset" in body else body
    missing = {
        name: 10**9 if name == "dataset" else "nope" if value == named else value for name, value in body.items()
    }
    api = signed_in(world.people["stranger"])
    first, second = (api.post(path, sent, format="json") for sent in (hidden, missing))
    assert 400 <= first.status_code < 500
    assert first.status_code == second.status_code
    assert first.content.replace(named.encode() or b"?", b"nope") == second.content


def test_a_trial_with_a_word_that_is_not_known_changes_nothing() -> None:
    world = World("public")
    api = signed_in(world.people["manager"])
    for path, body, word in (
        ("/api/projects/birds/operations/", {"operation": "hold", "dry-run": True}, "dry-run"),
        ("/api/projects/birds/operations/", {"operation": "hold", "stat": "failed"}, "stat"),
        ("/api/datasets/birds:one/reset/", {"take-files": True}, "take-files"),
    ):
        refused = api.post(path, body, format="json")
        assert refused.status_code == 400
        assert "It is not known here" in refused.json()[word][0]
    world.dataset.refresh_from_db()
    assert not world.dataset.locked
    client = Client()
    client.force_login(world.people["manager"])
    assert client.get("/projects/birds/hold?stat=failed").status_code == 404


def test_the_files_of_a_deleted_project_are_not_given_to_who_takes_its_name() -> None:
    world = World("private")
    manager, stranger = (signed_in(world.people[who]) for who in ("manager", "stranger"))
    assert manager.delete("/api/projects/birds/").status_code == 204
    refused = stranger.post("/api/projects/", {"name": "Birds"}, format="json")
    assert refused.status_code == 400
    assert "whose files may be in the storage still" in refused.json()["name"][0]
    assert manager.post("/api/projects/", {"name": "Birds"}, format="json").status_code == 201


def test_options_are_refused_in_words() -> None:
    world = World("public")
    answer = signed_in(world.people["manager"]).options("/api/projects/")
    assert answer.status_code == 405
    assert "not allowed" in answer.json()["detail"]
