"""What a person decides about many datasets at once, through the API; and the API's own page."""

from __future__ import annotations

from typing import Any

import pytest
from django.test import Client
from rest_framework.test import APIClient

from crunch_tasks.contract import Stage, State
from server.models import Change, Dataset, Project
from server.routes import routes
from server.services import catalogue
from tests.support.calls import claim, status

pytestmark = pytest.mark.django_db


@pytest.fixture
def failed(api: APIClient, project: Project) -> None:
    """Two that failed alike, one that failed otherwise, and one that waits."""
    notes = (
        "ValueError: expected 12 columns, got 9",
        "ValueError: expected 12 columns, got 11",
        "bwa: command not found",
    )
    for number, note in enumerate(notes):
        catalogue.create_dataset(project, name=f"Sample {number}")
        claimed = claim(api, project=project.slug).json()
        status(api, claimed, Stage.WORKFLOW, State.FAIL, note=note)
    catalogue.create_dataset(project, name="Other")


def perform(api: APIClient, **body: Any) -> Any:
    return api.post("/api/projects/birds/operations/", body, format="json")


def states() -> dict[str, str]:
    return dict(Dataset.objects.values_list("key", "state"))


@pytest.mark.usefixtures("failed")
def test_a_group_of_failures_is_retried_after_a_dry_run(api: APIClient) -> None:
    groups = api.get("/api/projects/birds/failures/").json()
    assert [(group["stage"], group["count"]) for group in groups] == [(2, 2), (2, 1)]
    group = groups[0]["failure"]
    would = perform(api, operation="retry", failure=group, dry_run=True).json()
    assert (would["count"], would["datasets"]) == (2, ["birds:sample-0", "birds:sample-1"])
    assert list(states().values()).count("failed") == 3
    assert perform(api, operation="retry", failure=group).json()["count"] == 2
    assert states() == {
        "sample-0": "unprocessed",
        "sample-1": "unprocessed",
        "sample-2": "failed",
        "other": "unprocessed",
    }
    assert (Change.objects.get().act, Change.objects.get().after["count"]) == ("retry", 2)


@pytest.mark.usefixtures("failed")
def test_a_selection_is_held_and_let_go(api: APIClient) -> None:
    assert perform(api, operation="hold", search="sample").json()["count"] == 3
    assert Dataset.objects.filter(locked=True).count() == 3
    assert perform(api, operation="let-go", search="sample", state="failed").json()["count"] == 3
    assert not Dataset.objects.filter(locked=True).exists()


@pytest.mark.usefixtures("failed")
def test_what_is_not_understood_changes_nothing(api: APIClient) -> None:
    assert perform(api, operation="delete").status_code == 400
    assert perform(api, operation="reset", state="lost").status_code == 400
    assert perform(api, operation="retry", failure=10**6).json()["count"] == 0
    assert list(states().values()).count("failed") == 3


def test_the_page_of_the_api_has_every_route() -> None:
    text = Client().get("/reference/").content.decode()
    for route in routes():
        if route.path.startswith("/api/"):
            assert route.path.split("<")[0] in text
    assert "How their names begin." in text
