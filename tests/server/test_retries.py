"""Datasets that a person has processed once more: reset, retried one by one or all failed ones of a project."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth.models import User
from rest_framework.test import APIClient

from crunch_tasks.contract import Stage, State
from crunch_tasks.errors import Refused
from server.models import Change, Dataset, Project, Status
from server.services import bulk, catalogue, datasets
from tests.support.calls import MANIFEST, claim, expire, heartbeat, post_json, status


def test_reset_refuses_the_old_fence_and_keeps_history(api: APIClient, alice: User, dataset: Dataset) -> None:
    claimed = claim(api).json()
    status(api, claimed, Stage.SETUP, State.START)
    assert api.post("/api/datasets/birds:one/reset/").json()["state"] == "unprocessed"
    assert heartbeat(api, claimed).status_code == 409
    late = status(api, claimed, Stage.SETUP, State.FAIL)
    assert (late.status_code, late.json()["code"]) == (409, "fence")
    dataset.refresh_from_db()
    assert (dataset.state, dataset.fence) == ("unprocessed", 2)
    assert list(Status.objects.values_list("effective", flat=True)) == [True, False]
    assert claim(api).json()["fence"] == 3


def test_a_reset_may_take_the_files_as_they_are(api: APIClient, dataset: Dataset) -> None:
    """Then nothing that earlier runs published or left counts: their fences are history, and the next is not."""
    status(api, claim(api).json(), Stage.UPLOAD, State.SUCCESS)
    plain = api.post("/api/datasets/birds:one/reset/").json()
    assert (plain["manifest_sha256"], plain["manifest_fence"]) == (MANIFEST, 1)
    status(api, claim(api).json(), Stage.UPLOAD, State.FAIL)
    assert post_json(api, "/api/datasets/birds:one/reset/", {"take_files": "x"}).status_code == 400
    taken = post_json(api, "/api/datasets/birds:one/reset/", {"take_files": True}).json()
    assert (taken["state"], taken["manifest_sha256"], taken["manifest_fence"]) == ("unprocessed", "", 4)
    assert claim(api).json()["fence"] == 5


def test_a_retry_may_take_the_files_as_they_are(api: APIClient, dataset: Dataset) -> None:
    """By the rule of a plain one: not from a run, and not of what is unprocessed already."""

    def retry(**body: bool) -> Any:
        return post_json(api, "/api/datasets/birds:one/retry/", {"take_files": True, **body})

    def published() -> tuple[str, str, int]:
        now = Dataset.objects.get()
        return now.state, now.manifest_sha256, now.manifest_fence

    claimed = claim(api).json()
    assert (retry().status_code, retry().json()["code"]) == (409, "running")
    status(api, claimed, Stage.UPLOAD, State.SUCCESS)
    assert retry(dry_run=True).json()["count"] == 1
    assert published() == ("completed", MANIFEST, 1)
    assert post_json(api, "/api/datasets/birds:one/retry/", {"take_files": "x"}).status_code == 400
    assert post_json(api, "/api/projects/birds/retry/", {"take_files": True}).status_code == 400
    assert retry().json()["count"] == 1
    assert published() == ("unprocessed", "", 2)
    assert (Change.objects.get().act, Change.objects.get().after) == ("retry", {"take_files": True})
    assert (retry().json()["count"], published()) == (0, ("unprocessed", "", 2))


def test_a_retry_that_was_decided_by_an_old_fence_is_refused(api: APIClient, dataset: Dataset) -> None:
    status(api, claim(api).json(), Stage.SETUP, State.FAIL)
    with pytest.raises(Refused, match="meanwhile"):
        datasets.retry(dataset.pk, fence=0)
    assert Dataset.objects.get().state == "failed"
    assert datasets.retry(dataset.pk, fence=1).count == 1
    assert Dataset.objects.get().state == "unprocessed"


def test_a_retry_is_for_what_nobody_processes(api: APIClient, dataset: Dataset) -> None:
    claimed = claim(api).json()
    for _ in range(2):
        refused = api.post("/api/datasets/birds:one/retry/")
        assert (refused.status_code, refused.json()["code"]) == (409, "running")
        assert "Cancel its run" in refused.json()["detail"]
        # A lost client's run is the next client's, or a person's who cancels it.
        expire(dataset.pk)
    status(api, claimed, Stage.SETUP, State.FAIL)
    datasets.set_hold(dataset.pk, True)
    told = {"dry_run": True, "count": 1, "datasets": ["birds:one"], "held": 1}
    before = Dataset.objects.values().get()
    assert post_json(api, "/api/datasets/birds:one/retry/", {"dry_run": True}).json() == told
    assert Dataset.objects.values().get() == before
    assert api.post("/api/datasets/birds:one/retry/").json() == {**told, "dry_run": False}
    dataset.refresh_from_db()
    assert (dataset.state, dataset.fence, dataset.locked) == ("unprocessed", 2, True)
    # As after an answer that was lost.
    again = api.post("/api/datasets/birds:one/retry/")
    assert (again.status_code, again.json()["count"]) == (200, 0)
    dataset.refresh_from_db()
    assert dataset.fence == 2
    assert Status.objects.count() == 1


def test_all_failed_of_a_project_are_retried(api: APIClient, project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in "abcd":
        catalogue.create_dataset(project, name=name)
    for _ in range(3):
        status(api, claim(api).json(), Stage.WORKFLOW, State.FAIL)
    claim(api)
    datasets.set_hold(Dataset.objects.get(name="b").pk, True)
    monkeypatch.setattr(bulk, "LISTED", 2)
    told = {"dry_run": True, "count": 3, "datasets": ["birds:a", "birds:b"], "held": 1}
    assert post_json(api, "/api/projects/birds/retry/", {"dry_run": True}).json() == told
    assert Dataset.objects.failed().count() == 3
    assert api.post("/api/projects/birds/retry/").json() == {**told, "dry_run": False}
    assert list(Dataset.objects.values_list("state", flat=True)) == [*["unprocessed"] * 3, "running"]
    assert api.post("/api/projects/birds/retry/").json()["count"] == 0
    assert api.post("/api/projects/none/retry/").status_code == 404
    assert post_json(api, "/api/projects/birds/retry/", {"dry_run": "x"}).status_code == 400


def test_the_older_address_of_a_retry_tells_the_number(api: APIClient, dataset: Dataset) -> None:
    status(api, claim(api).json(), Stage.WORKFLOW, State.FAIL)
    # It knows no trial, and must not take one for the real thing.
    refused = post_json(api, "/api/projects/birds/reset-failed/", {"dry_run": True})
    told = {"dry_run": ["It is not known here; this takes no fields."]}
    assert (refused.status_code, refused.json()) == (400, told)
    assert Dataset.objects.get().state == "failed"
    assert api.post("/api/projects/birds/reset-failed/").json() == {"reset": 1}
    assert Dataset.objects.get().state == "unprocessed"


@pytest.mark.parametrize("where", ["projects/birds/retry", "projects/birds/reset-failed", "datasets/birds:one/retry"])
def test_a_trial_that_is_asked_for_in_the_address_is_refused_and_not_the_real_thing(
    api: APIClient, dataset: Dataset, where: str
) -> None:
    Dataset.objects.update(state="failed")
    told = api.post(f"/api/{where}/?dry_run=true")
    assert (told.status_code, list(told.json())) == (400, ["dry_run"])
    assert Dataset.objects.get().state == "failed"
