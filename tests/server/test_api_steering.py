"""What a person decides about one dataset through the API, and who may."""

from __future__ import annotations

from typing import Any

import pytest
from rest_framework.test import APIClient

from server.models import Change, Dataset
from tests.server.test_permissions import World
from tests.support.calls import claim, expire, signed_in

pytestmark = pytest.mark.django_db

ADDRESS = "/api/datasets/birds:one/"


@pytest.fixture
def world() -> World:
    return World("public")


@pytest.fixture(params=["stranger", "viewer", "runner", "editor", "manager"])
def who(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def by(world: World, who: str) -> APIClient:
    return signed_in(world.people[who])


STEERS = {"runner", "editor", "manager"}
EDITS = {"editor", "manager"}


def change(api: APIClient, **values: Any) -> int:
    status: int = api.patch(ADDRESS, values, format="json").status_code
    return status


def test_whoever_steers_holds_a_dataset_and_lets_it_go_and_edits_nothing_else(
    world: World, who: str, by: APIClient
) -> None:
    for locked in (True, False):
        assert change(by, locked=locked) == (200 if who in STEERS else 403)
        assert Dataset.objects.get().locked is (locked and who in STEERS)
    edited = 200 if who in EDITS else 403
    for values in ({"description": "x"}, {"priority": 1}, {"needs": "cores=2"}, {"base_file_path": "birds/else"}):
        assert change(by, locked=True, **values) == edited
    whole = {"name": "One", "parent": "birds", "details": "new"}
    assert by.put(ADDRESS, whole, format="json").status_code == edited
    dataset = Dataset.objects.get()
    assert (dataset.locked, dataset.details) == ((True, "new") if who in EDITS else (False, ""))


def test_a_refusal_says_what_the_act_needs(world: World) -> None:
    told = signed_in(world.people["viewer"]).patch(ADDRESS, {"locked": True}, format="json").json()["detail"]
    assert "needs the role runner; yours is viewer" in told
    told = signed_in(world.people["runner"]).patch(ADDRESS, {"priority": 1}, format="json").json()["detail"]
    assert "needs the role editor; yours is runner" in told


@pytest.mark.parametrize(
    ("address", "values", "role"),
    [
        ("projects/birds", {"paused": True}, "runner"),
        ("projects/birds", {"description": "x"}, "editor"),
        ("projects/birds", {"workflow": "x", "paused": True}, "editor with the right to edit its workflow"),
        ("projects/birds", {"workflow": "x", "visibility": "private", "description": "x"}, "manager"),
        # What stays as it is needs nothing.
        ("projects/birds", {"visibility": "public", "paused": True}, "runner"),
        ("datasets/birds:one", {"locked": True, "description": "x"}, "editor"),
        ("datasets/birds:one", {"locked": True, "name": "One", "parent": "birds"}, "runner"),
        ("datasets/birds:one", {}, "runner"),
        ("datasets/birds:one", ["locked"], "runner"),
    ],
)
def test_a_viewer_is_told_at_once_what_all_that_was_sent_needs(
    world: World, address: str, values: Any, role: str
) -> None:
    refused = signed_in(world.people["viewer"]).patch(f"/api/{address}/", values, format="json")
    assert (refused.status_code, refused.json()["code"]) == (403, "permission_denied")
    assert f"needs the role {role}; yours is viewer" in refused.json()["detail"]


def test_a_runner_is_told_the_strictest_need_that_is_lacking(world: World) -> None:
    values = {"paused": True, "description": "x", "workflow": "x", "max_attempts": 7}
    told = signed_in(world.people["runner"]).patch("/api/projects/birds/", values, format="json").json()["detail"]
    assert "needs the role manager; yours is runner" in told


def test_whoever_steers_cancels_what_somebody_else_runs(world: World, who: str, by: APIClient) -> None:
    held = claim(signed_in(world.people["manager"]), dataset="birds:one").json()
    cancelled = by.post(f"{ADDRESS}cancel/")
    asked = signed_in(world.people["manager"]).post(
        f"/api/claims/{held['claim']}/heartbeat/", {"fence": held["fence"]}, format="json"
    )
    if who not in STEERS:
        assert (cancelled.status_code, asked.json()["cancel"]) == (403, False)
        return
    assert (cancelled.status_code, cancelled.json()["claim"], cancelled.json()["ended"]) == (200, held["claim"], None)
    assert (asked.json()["cancel"], asked.json()["cancelled_by"]) == (True, who)
    # Whoever did not get the answer asks again.
    assert by.post(f"{ADDRESS}cancel/").json() == cancelled.json()
    noted = Change.objects.filter(act="cancel").earliest("pk")
    assert (noted.target, noted.user) == ("birds:one", world.people[who])


def test_there_is_nothing_to_cancel_and_a_lost_run_fails_now(world: World) -> None:
    api = signed_in(world.people["runner"])
    assert api.post(f"{ADDRESS}cancel/").json()["code"] == "claim_ended"
    claim(api, dataset="birds:one")
    expire(world.dataset.pk)
    assert api.post(f"{ADDRESS}cancel/").json()["end_reason"] == "cancelled"
    assert Dataset.objects.get().state == "failed"
    refused = api.post(f"{ADDRESS}cancel/")
    assert (refused.status_code, refused.json()["detail"]) == (409, "There is no run to cancel (any more).")
