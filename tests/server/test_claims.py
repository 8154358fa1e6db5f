"""Claims as clients and people see them: who gets what, how it is kept, lost, given back and cancelled."""

from __future__ import annotations

import hashlib

import pytest
from rest_framework.test import APIClient

from crunch_tasks.contract import Claim, Stage, State
from server.models import Claim as ClaimRow
from server.models import Dataset, Project, Status
from server.services import catalogue, datasets
from tests.support.calls import cancel, claim, expire, heartbeat, release, status


def test_a_claim_tells_all_that_a_run_needs(api: APIClient, dataset: Dataset) -> None:
    answer = claim(api)
    assert answer.status_code == 201
    told = Claim.from_wire(answer.json())
    assert (told.slug, told.fence, told.ttl_s, told.heartbeat_s) == ("birds:one", 1, 900, 30)
    assert told.workflow == "#!/bin/bash\necho hi\n"
    assert told.workflow_sha256 == hashlib.sha256(told.workflow.encode()).hexdigest()
    assert told.dataset["state"] == "running"
    assert told.project["slug"] == "birds"
    assert claim(api).status_code == 204


def test_higher_priority_first_then_older_and_next_agrees(api: APIClient, project: Project) -> None:
    for name, priority, locked in [("a", 0, False), ("b", 5, False), ("c", 5, False), ("held", 9, True)]:
        catalogue.create_dataset(project, name=name, priority=priority, locked=locked)
    taken = []
    while (coming := api.get("/api/next/").json())["dataset"]:
        assert coming == api.get("/api/projects/birds/next/").json()
        taken.append(claim(api, project="birds").json()["dataset"]["slug"])
        assert taken[-1] == coming["dataset"]
    assert taken == ["birds:b", "birds:c", "birds:a"]
    assert coming == {"project": "", "dataset": ""}


def test_next_changes_nothing_and_knows_used_up_leases(api: APIClient, project: Project, dataset: Dataset) -> None:
    Project.objects.update(max_attempts=1)
    claim(api)
    expire(dataset.pk)
    assert api.get("/api/next/").json() == {"project": "", "dataset": ""}
    assert Dataset.objects.get().state == "running"
    assert claim(api).status_code == 204
    assert Dataset.objects.get().state == "failed"


def test_a_project_without_datasets_gives_nothing_and_an_unknown_one_404(api: APIClient, dataset: Dataset) -> None:
    catalogue.create_project(name="Empty")
    assert claim(api, project="empty").status_code == 204
    assert claim(api, project="nope").status_code == 404
    assert api.get("/api/projects/nope/next/").json() == {"detail": "There is no project 'nope'."}


def test_the_same_request_gets_the_same_claim_while_it_is_current(
    api: APIClient, bobs_api: APIClient, project: Project, dataset: Dataset
) -> None:
    catalogue.create_dataset(project, name="Two")
    first = claim(api, request_id="once")
    expire(dataset.pk)
    again = claim(api, request_id="once")
    assert (first.status_code, again.status_code) == (201, 200)
    assert again.json()["claim"] == first.json()["claim"]
    assert not Dataset.objects.get(pk=dataset.pk).lease_expired
    assert claim(bobs_api, request_id="once").json()["dataset"]["slug"] == "birds:two"
    release(api, first.json())
    ended = claim(api, request_id="once")
    assert (ended.status_code, ended.json()["code"]) == (409, "claim_ended")


def test_a_client_that_dies_again_and_again_fails_the_dataset(api: APIClient, dataset: Dataset) -> None:
    first = claim(api, request_id="once").json()
    status(api, first, Stage.SETUP, State.SUCCESS)
    for _ in range(2):
        status(api, first, Stage.WORKFLOW, State.START)
        heartbeat(api, first)
        again = claim(api, request_id="once")
        assert (again.status_code, again.json()["claim"]) == (200, first["claim"])
    heartbeat(api, first)
    for _ in range(2):
        ended = claim(api, request_id="once")
        assert (ended.status_code, ended.json()["code"]) == (409, "claim_ended")
        assert "died 3 times" in ended.json()["detail"]
    dataset.refresh_from_db()
    assert (dataset.state, dataset.fence, dataset.claim) == ("failed", 2, None)
    fail = Status.objects.get(state=State.FAIL)
    assert (fail.stage, fail.effective, fail.fence) == (Stage.WORKFLOW, True, 2)
    assert fail.note == "The client died 3 times while processing this dataset."
    assert heartbeat(api, first).status_code == 409


def test_a_status_shows_too_that_the_holder_had_begun(api: APIClient, project: Project, dataset: Dataset) -> None:
    Project.objects.update(max_attempts=1)
    status(api, claim(api, request_id="once").json(), Stage.SETUP, State.START)
    assert claim(api, request_id="once").status_code == 409
    assert Status.objects.get(state=State.FAIL).note == "The client died 1 time while processing this dataset."


def test_a_request_whose_answer_was_lost_may_be_sent_as_often_as_needed(api: APIClient, dataset: Dataset) -> None:
    first = claim(api, request_id="once").json()
    for _ in range(5):
        assert claim(api, request_id="once").status_code == 200
    heartbeat(api, first)
    for _ in range(5):
        assert claim(api, request_id="once").status_code == 200
    assert Dataset.objects.get().state == "running"
    assert ClaimRow.objects.get().resumed == 1


def test_a_named_dataset_is_taken_in_any_state_but_a_live_lease_or_a_hold(
    api: APIClient, bobs_api: APIClient, dataset: Dataset
) -> None:
    first = claim(api, dataset="birds:one").json()
    leased = claim(bobs_api, dataset="birds:one")
    assert (leased.status_code, leased.json()["code"]) == (409, "leased")
    assert "alice" in leased.json()["detail"]
    assert "node1" in leased.json()["detail"]
    status(api, first, Stage.SETUP, State.FAIL)
    second = claim(bobs_api, dataset="birds:one").json()
    assert second["fence"] == 2
    assert second["dataset"]["attempt"] == 0
    expire(dataset.pk)
    third = claim(api, dataset="birds:one").json()
    assert (third["fence"], third["dataset"]["attempt"]) == (3, 1)
    status(api, third, Stage.UPLOAD, State.SUCCESS)
    datasets.set_hold(dataset.pk, True)
    held = claim(api, dataset="birds:one")
    assert (held.status_code, held.json()["code"]) == (409, "locked")
    datasets.set_hold(dataset.pk, False)
    assert claim(api, dataset="birds:one").status_code == 201
    assert claim(api, dataset="birds:nope").status_code == 404
    assert claim(api, dataset="birds:one", project="other").status_code == 404


def test_an_expired_lease_stays_its_holders_until_it_is_taken(
    api: APIClient, bobs_api: APIClient, dataset: Dataset
) -> None:
    first = claim(api).json()
    expire(dataset.pk)
    assert heartbeat(api, first).json() == {"ttl_s": 900.0, "cancel": False, "cancelled_by": ""}
    assert claim(bobs_api).status_code == 204
    expire(dataset.pk)
    second = claim(bobs_api).json()
    assert second["fence"] == 2
    lost = heartbeat(api, first)
    assert (lost.status_code, lost.json()["code"]) == (409, "lost")
    assert release(api, first).status_code == 409
    assert heartbeat(bobs_api, second).status_code == 200


def test_lost_clients_are_counted_and_one_too_many_is_a_failure(
    api: APIClient, project: Project, dataset: Dataset
) -> None:
    other = catalogue.create_dataset(project, name="Two", priority=-1)
    for attempt in range(3):
        claimed = claim(api).json()
        assert (claimed["dataset"]["id"], claimed["dataset"]["attempt"]) == (dataset.pk, attempt)
        expire(dataset.pk)
    assert claim(api).json()["dataset"]["id"] == other.pk
    dataset.refresh_from_db()
    assert (dataset.state, dataset.fence, dataset.attempt) == ("failed", 4, 3)
    fail = Status.objects.get(dataset=dataset)
    assert (fail.state, fail.effective, fail.fence, fail.site_user) == (State.FAIL, True, 4, None)
    assert "3 of 3" in fail.note


def test_release_gives_back_without_charging_and_may_be_repeated(api: APIClient, dataset: Dataset) -> None:
    claimed = claim(api).json()
    assert release(api, claimed).status_code == 200
    assert release(api, claimed).status_code == 200
    dataset.refresh_from_db()
    assert (dataset.state, dataset.attempt, dataset.lease_owner, dataset.claim) == ("unprocessed", 0, None, None)
    assert heartbeat(api, claimed).status_code == 409


def test_cancel_reaches_the_client_and_who_cancelled_is_kept(
    api: APIClient, bobs_api: APIClient, dataset: Dataset
) -> None:
    claimed = claim(api).json()
    assert cancel(bobs_api, claimed).json()["cancelled_by"] == "bob"
    told = heartbeat(api, claimed).json()
    assert (told["cancel"], told["cancelled_by"]) == (True, "bob")
    assert release(api, claimed).status_code == 200
    dataset.refresh_from_db()
    assert dataset.state == "failed"
    assert Status.objects.get(dataset=dataset).note == "Cancelled by bob."
    assert cancel(bobs_api, claimed).json()["code"] == "claim_ended"


def test_a_cancelled_run_of_a_lost_client_fails(
    api: APIClient, bobs_api: APIClient, project: Project, dataset: Dataset
) -> None:
    asked_before = claim(api).json()
    cancel(bobs_api, asked_before)
    expire(dataset.pk)
    assert claim(api).status_code == 204
    assert Dataset.objects.get(pk=dataset.pk).state == "failed"
    asked_after = claim(api, dataset=dataset.slug).json()
    expire(dataset.pk)
    assert cancel(bobs_api, asked_after).json()["end_reason"] == "cancelled"
    assert Dataset.objects.get(pk=dataset.pk).state == "failed"


def test_another_users_token_changes_nothing(api: APIClient, bobs_api: APIClient, dataset: Dataset) -> None:
    claimed = claim(api).json()
    before = Dataset.objects.values().get()
    answers = [
        heartbeat(bobs_api, claimed),
        release(bobs_api, claimed),
        status(bobs_api, claimed, Stage.SETUP, State.START),
    ]
    assert [answer.status_code for answer in answers] == [403, 403, 403]
    assert Dataset.objects.values().get() == before
    assert not Status.objects.exists()


def test_progress_is_kept_and_only_small_plain_json(api: APIClient, dataset: Dataset) -> None:
    claimed = claim(api).json()
    assert heartbeat(api, claimed, progress={"done": 1, "total": 3}).status_code == 200
    for bad in ({"a": "x" * 5000}, {"a": "\x00"}, {"a": "\ud800"}, {"a": float("inf")}, [1], "x"):
        assert heartbeat(api, claimed, progress=bad).status_code == 400
    dataset.refresh_from_db()
    assert dataset.progress == {"done": 1, "total": 3}


@pytest.mark.parametrize(
    ("url", "kept"),
    [
        ("http://prefect:4200/runs/1", True),
        ("https://[::1]/runs/1?a=b", True),
        ("javascript:alert(1)", False),
        ("file:///etc/passwd", False),
        ("data:text/html,x", False),
        ("http://[", False),
        ("http://h/" + "x" * 2000, False),
        ("x", False),
        ("", False),
    ],
)
def test_a_flow_runs_address_is_a_web_address_or_nothing(
    api: APIClient, dataset: Dataset, url: str, kept: bool
) -> None:
    """Nobody loses a claim or a status over a link."""
    assert claim(api, flow_run_url=url).status_code == 201
    dataset.refresh_from_db()
    assert dataset.claim.flow_run_url == (url if kept else "")


def test_a_named_dataset_whose_clients_were_lost_fails_and_starts_anew(api: APIClient, dataset: Dataset) -> None:
    """A person's run does not go on counting: the last lost lease is written down, and the attempts begin again."""
    for attempt in range(3):
        assert claim(api, dataset="birds:one").json()["dataset"]["attempt"] == attempt
        expire(dataset.pk)
    anew = claim(api, dataset="birds:one").json()
    assert (anew["fence"], anew["dataset"]["attempt"]) == (5, 0)
    assert "3 of 3" in Status.objects.get(state=State.FAIL).note
    cancel(api, anew)
    expire(dataset.pk)
    assert claim(api, dataset="birds:one").json()["fence"] == 7
    assert Status.objects.last().note == "Cancelled by alice."


def test_a_named_dataset_that_had_to_wait_is_not_taken_once_it_is_decided(api: APIClient, dataset: Dataset) -> None:
    Dataset.objects.update(needs="gpus=1")
    for attempt in range(3):
        taken = claim(api, dataset="birds:one", only_waiting=True)
        assert (taken.status_code, taken.json()["dataset"]["attempt"]) == (201, attempt)
        leased = claim(api, dataset="birds:one", only_waiting=True)
        assert (leased.status_code, leased.json()["code"]) == (409, "leased")
        expire(dataset.pk)
    for _ in range(2):
        lost = claim(api, dataset="birds:one", only_waiting=True)
        assert (lost.status_code, lost.json()["code"]) == (409, "decided")
        assert lost.json()["detail"] == "birds:one is failed already."
        assert "3 of 3" in Status.objects.get(state=State.FAIL).note
    done = claim(api, dataset="birds:one").json()
    status(api, done, Stage.UPLOAD, State.SUCCESS)
    assert claim(api, dataset="birds:one", only_waiting=True).json()["detail"] == "birds:one is completed already."
    Dataset.objects.update(state="unprocessed")
    assert claim(api, dataset="birds:one", only_waiting=True).status_code == 201


def test_a_slow_edit_does_not_write_an_old_state_back(api: APIClient, dataset: Dataset) -> None:
    before_the_claim = Dataset.objects.get(pk=dataset.pk)
    claim(api)
    before_the_claim.description = "edited"
    before_the_claim.save()
    dataset.refresh_from_db()
    assert (dataset.state, dataset.fence, dataset.description) == ("running", 1, "edited")
    assert dataset.claim is not None


def test_a_completed_dataset_that_was_named_is_completed_again_when_it_is_given_back(
    api: APIClient, dataset: Dataset
) -> None:
    first = claim(api).json()
    status(api, first, Stage.UPLOAD, State.SUCCESS)
    dataset.refresh_from_db()
    published = (dataset.manifest_sha256, dataset.manifest_fence)
    again = claim(api, dataset=dataset.slug).json()
    assert release(api, again).status_code == 200
    dataset.refresh_from_db()
    assert (dataset.state, dataset.manifest_sha256, dataset.manifest_fence) == ("completed", *published)
    assert claim(api).status_code == 204
