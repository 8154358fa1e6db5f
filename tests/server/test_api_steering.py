"""What a person decides about one dataset through the API, and who may."""

from __future__ import annotations

from typing import Any

import pytest
from rest_framework.test import APIClient

from server.models import Dataset
from tests.server.test_permissions import World
from tests.support.calls import signed_in

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
