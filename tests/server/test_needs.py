"""Claims that fit: a client gets what asks for nothing that its machine has not, and what ends in its time."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone
from rest_framework.test import APIClient

from crunch_tasks.contract import Stage, State
from server.models import Claim, Dataset, PastRun, Project
from server.services import catalogue, forecast, queue
from tests.support.calls import claim, expire, post_json, status

SMALL = {"cores": 4, "memory": 8 * 10**9}
GPU = {"cores": 16, "memory": 64 * 2**30, "gpus": 2, "labels": ["AVX512", "fast"]}


def taken(answer: Any) -> str:
    assert answer.status_code == 201, answer.content
    return str(
        answer.json()["dataset"]["key"] if "key" in answer.json()["dataset"] else answer.json()["dataset"]["slug"]
    )


def test_each_gets_the_first_that_fits_it(api: APIClient, project: Project) -> None:
    for name, priority, needs in [
        ("big", 9, "memory=64GiB"),
        ("gpu", 8, "gpus=2 avx512"),
        ("small", 1, "cores=4 memory=8GB"),
        ("free", 0, "none"),
        ("as-project", 5, ""),
    ]:
        catalogue.create_dataset(project, name=name, priority=priority, needs=needs)
    Project.objects.update(needs="cores=8")
    assert taken(claim(api, capabilities=SMALL)) == "birds:small"
    assert taken(claim(api)) == "birds:free"
    assert api.get("/api/next/").json() == {"project": "", "dataset": ""}
    assert claim(api).status_code == 204
    assert [taken(claim(api, capabilities=GPU)) for _ in range(3)] == ["birds:big", "birds:gpu", "birds:as-project"]
    assert claim(api, capabilities=GPU).status_code == 204


def test_what_waits_and_does_not_fit_is_told(api: APIClient, bobs_api: APIClient, project: Project) -> None:
    Project.objects.update(needs="cores=8 gpus=1")
    catalogue.create_dataset(project, name="one")
    other = catalogue.create_project(name="Whales")
    catalogue.create_dataset(other, name="one", needs="fast memory=2TB cores=2")
    refused = claim(api, capabilities=SMALL)
    assert (refused.status_code, refused.json()["code"]) == (409, "unfit")
    assert refused.json()["detail"] == (
        "Datasets wait, but none fits this machine: birds asks for cores=8 gpus=1; whales asks for memory=2TB fast."
    )
    assert claim(api, project="whales", capabilities=GPU).json()["detail"].endswith(" whales asks for memory=2TB.")
    quick = catalogue.create_project(name="Quick")
    catalogue.create_dataset(quick, name="one")
    assert claim(api, capabilities=SMALL, seconds=5).json()["detail"] == (
        "Datasets wait, but none fits this machine and would be done in time: birds asks for cores=8 gpus=1; "
        "whales asks for memory=2TB fast; quick may take 60 s, and 5 s are left."
    )
    quick.delete()
    named = claim(api, dataset="birds:one", capabilities=SMALL)
    assert (named.status_code, named.json()["code"]) == (409, "unfit")
    assert named.json()["detail"] == "birds:one does not fit this machine: it asks for cores=8 gpus=1."
    late = claim(api, dataset="birds:one", capabilities=GPU, seconds=5)
    assert late.json()["detail"] == "birds:one does not fit: it may take 60 s, and 5 s are left."
    assert claim(api, dataset="birds:one").status_code == 201
    Project.objects.update(paused=True)
    assert claim(api, capabilities=SMALL).status_code == 204


def test_a_lost_run_goes_to_a_machine_that_fits(api: APIClient, project: Project, dataset: Dataset) -> None:
    Dataset.objects.update(needs="gpus=1")
    claim(api, capabilities=GPU)
    expire(dataset.pk)
    assert claim(api, capabilities=SMALL).status_code == 204
    assert api.get("/api/next/").json()["dataset"] == ""
    assert taken(claim(api, capabilities=GPU)) == "birds:one"


@pytest.mark.parametrize(
    ("needs", "kept"),
    [
        ("GPUS=1, Fast memory=1024MiB cores=02", "cores=2 memory=1GiB gpus=1 fast"),
        ("memory=1500MB", "memory=1500MB"),
        (" , ", ""),
        ("cores=0", "none"),
    ],
)
def test_needs_have_one_text(api: APIClient, project: Project, dataset: Dataset, needs: str, kept: str) -> None:
    for path in ("/api/datasets/birds:one/", "/api/projects/birds/"):
        answer = api.patch(path, {"needs": needs}, format="json")
        assert (answer.status_code, answer.json()["needs"]) == (200, kept)
    made = post_json(api, "/api/projects/birds/datasets/bulk/", {"datasets": [{"name": "two", "needs": needs}]})
    assert made.status_code == 201, made.content
    assert Dataset.objects.get(slug="birds:two").needs == kept


@pytest.mark.parametrize(
    "needs",
    ["cpus=3", "cores=-1", "cores=1.5", "memory=8 GB of it=1", "cores=1 cores=2", "memory=9999999TB", "\x00", "é"],
)
def test_needs_that_nobody_understands_are_refused(api: APIClient, dataset: Dataset, needs: str) -> None:
    answer = api.patch("/api/datasets/birds:one/", {"needs": needs}, format="json")
    assert answer.status_code == 400
    assert len(answer.json()["needs"]) == 1


@pytest.mark.parametrize(
    "capabilities",
    [
        {"cores": -1},
        {"memory": "x"},
        {"gpus": 1e99},
        {"labels": "fast"},
        {"labels": ["a b"]},
        {"labels": [None]},
        [],
        5,
    ],
)
def test_capabilities_that_cannot_be_are_refused(api: APIClient, dataset: Dataset, capabilities: Any) -> None:
    assert claim(api, capabilities=capabilities).status_code == 400
    assert Dataset.objects.get().state == "unprocessed"


def test_a_project_has_only_so_many_kinds_of_datasets_waiting(
    api: APIClient, project: Project, dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each kind costs a claim a look into the index."""
    monkeypatch.setattr(queue, "MOST_KINDS", 3)
    bulk = "/api/projects/birds/datasets/bulk/"
    rows = [{"name": name, "needs": f"cores={number}"} for number, name in enumerate("abcd", 1)]
    refused = post_json(api, bulk, {"datasets": rows})
    assert (refused.status_code, Dataset.objects.count()) == (400, 1)
    assert "at most 3" in refused.content.decode()
    assert post_json(api, bulk, {"datasets": rows[:2]}).status_code == 201
    new = {"parent": "birds", "name": "e", "needs": "gpus=1"}
    assert "at most 3" in post_json(api, "/api/datasets/", new).json()["needs"][0]
    assert api.patch("/api/datasets/birds:one/", {"needs": "cores=2"}, format="json").status_code == 200
    assert post_json(api, "/api/datasets/", new).status_code == 201
    assert api.patch("/api/datasets/birds:e/", {"needs": "cores=9"}, format="json").status_code == 400


def completed(api: APIClient, project: Project, seconds: float) -> None:
    """A dataset is made, and processed in so many seconds."""
    made = catalogue.create_dataset(project, name=f"past {Dataset.objects.count()}", priority=99)
    claimed = claim(api, dataset=made.slug).json()
    Claim.objects.filter(pk=claimed["claim"]).update(created=timezone.now() - timedelta(seconds=seconds))
    assert status(api, claimed, Stage.UPLOAD, State.SUCCESS).status_code == 201


def test_a_claim_gets_what_is_expected_to_end_in_time(api: APIClient, project: Project) -> None:
    for _ in range(4):
        catalogue.create_dataset(project, name=f"new {Dataset.objects.count()}")
    assert claim(api, seconds=59).status_code == 409
    assert claim(api, seconds=61).status_code == 201
    completed(api, project, 3000)
    refused = claim(api, seconds=5400)
    assert (refused.status_code, refused.json()["code"]) == (409, "unfit")
    assert refused.json()["detail"] == (
        "Datasets wait, but none would be done in time: birds may take 100 min, and 90 min are left."
    )
    assert claim(api, seconds=6100).status_code == 201
    for _ in range(20):
        completed(api, project, 1000)
    assert claim(api, seconds=990).status_code == 409
    other = catalogue.create_project(name="Whales")
    catalogue.create_dataset(other, name="one", priority=-1)
    assert taken(claim(api, seconds=990)) == "whales:one"
    assert claim(api, seconds=990, dataset="birds:new-2").status_code == 409
    assert claim(api, dataset="birds:new-2").status_code == 201
    assert taken(claim(api, seconds=1010)) == "birds:new-3"
    for _ in range(2):
        expire(Dataset.objects.get(slug="birds:new-3").pk)
        assert claim(api, seconds=990).status_code == 204
    assert taken(claim(api, seconds=1010)) == "birds:new-3"
    assert claim(api, seconds=0).status_code == 204


def test_old_runs_are_not_kept_for_ever(api: APIClient, project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forecast, "TRIM_EACH", 2)
    monkeypatch.setattr(forecast, "LAST", 3)
    for seconds in range(6):
        completed(api, project, 1000 * seconds)
    assert 3 <= PastRun.objects.count() <= 4
    assert [round(run.seconds, -3) for run in PastRun.objects.order_by("-pk")[:3]] == [5000, 4000, 3000]


@pytest.mark.parametrize(
    ("past", "expected"),
    [
        ([], 60),
        ([100], 200),
        ([100, 300, 200], 600),
        ([100] * 9 + [900], 100),
        ([100] * 8 + [900] * 2, 900),
        (list(range(1, 21)), 18),
    ],
)
def test_a_run_takes_what_most_took_and_twice_the_longest_of_few(past: list[float], expected: float) -> None:
    assert forecast.expected_s(past) == expected


@pytest.mark.parametrize("seconds", [-1, "NaN", "x", [1]])
def test_seconds_that_cannot_be_are_refused(api: APIClient, dataset: Dataset, seconds: Any) -> None:
    assert claim(api, seconds=seconds).status_code == 400
