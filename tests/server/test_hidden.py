"""What a caller may not see is not there, and a word that is not understood does nothing."""

from __future__ import annotations

from typing import Any

import pytest
from django.test import Client

from server.models import AccessToken, Attribute, Dataset, Item, Membership, Project
from tests.server.test_permissions import World
from tests.support.calls import claim, heartbeat, signed_in

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


@pytest.mark.parametrize("sent_as", ["json", "multipart"])
@pytest.mark.parametrize(
    ("method", "path", "body", "words"),
    [
        ("post", "tokens/", {"name": "t", "projct": "birds", "expirs": "2020-01-01"}, ["expirs", "projct"]),
        ("post", "projects/", {"name": "Fish", "visibilty": "public"}, ["visibilty"]),
        ("post", "datasets/", {"parent": "birds", "name": "q", "lockd": True}, ["lockd"]),
        ("put", "projects/birds/", {"name": "Birds", "pausd": True}, ["pausd"]),
        ("patch", "datasets/birds:one/", {"lockd": True}, ["lockd"]),
        ("post", "items/", {"parent": "birds", "name": "q", "detials": "x"}, ["detials"]),
        ("post", "attributes/char/", {"item": "birds:one", "key": "k", "value": "v", "vlaue": "w"}, ["vlaue"]),
        ("put", "projects/birds/members/editor/", {"role": "editor", "edits_worklow": True}, ["edits_worklow"]),
    ],
)
def test_a_misspelt_field_is_named_and_nothing_is_made_or_changed(
    sent_as: str, method: str, path: str, body: dict[str, Any], words: list[str]
) -> None:
    world = World("public")
    tables = (AccessToken, Attribute, Item, Dataset, Membership, Project)
    before = [list(table.objects.order_by("pk").values()) for table in tables]
    refused = getattr(signed_in(world.people["manager"]), method)(f"/api/{path}", body, format=sent_as)
    assert (refused.status_code, list(refused.json())) == (400, words)
    assert all("It is not known here; known are" in told for [told] in refused.json().values())
    assert [list(table.objects.order_by("pk").values()) for table in tables] == before


def test_what_was_read_may_be_sent_back_with_a_change() -> None:
    api = signed_in(World("public").people["manager"])
    for path in ("projects/birds/", "datasets/birds:one/"):
        read = api.get(f"/api/{path}").json()
        for send in (api.put, api.patch):
            answer = send(f"/api/{path}", {**read, "description": send.__name__}, format="json")
            assert (answer.status_code, answer.json()["description"]) == (200, send.__name__)
    read = api.get("/api/datasets/birds:one/").json()
    assert api.post("/api/datasets/", {**read, "name": "two", "base_file_path": ""}, format="json").status_code == 201
    [member] = (row for row in api.get("/api/projects/birds/members/").json()["results"] if row["role"] == "editor")
    assert api.put(f"/api/projects/birds/members/{member['user']}/", member, format="json").json() == member


def test_what_a_client_reports_may_have_words_that_this_server_does_not_know() -> None:
    api = signed_in(World("public").people["runner"])
    held = claim(api, dataset="birds:one", colour="red")
    assert held.status_code in (200, 201)
    assert heartbeat(api, held.json(), colour="red").status_code == 200
    sent = {"dataset": held.json()["dataset"]["id"], "stage": 1, "state": 1, "colour": "red"}
    assert api.post("/api/statuses/", sent, format="json").status_code == 201


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
