"""Statuses: what counts, what is history, and what comes twice."""

from __future__ import annotations

import pytest
from rest_framework.test import APIClient

from crunch_tasks.contract import DIAGNOSTICS, NOTE_BYTES, Stage, State
from server.models import Claim, Dataset, Status
from server.models.statuses import Diagnostics
from tests.support.calls import MANIFEST, claim, expire, status

START, SUCCESS, FAIL = State.START, State.SUCCESS, State.FAIL


@pytest.fixture
def claimed(api: APIClient, dataset: Dataset):
    return claim(api).json()


def old_status(api: APIClient, dataset: Dataset, stage: Stage, state: State, **body):
    """As published clients send it: a form, without a claim."""
    return api.post("/api/statuses/", {"dataset": dataset.pk, "stage": int(stage), "state": int(state), **body})


def test_six_statuses_complete_a_dataset(api: APIClient, claimed, dataset: Dataset) -> None:
    for stage in Stage:
        for state in (START, SUCCESS):
            kept = status(api, claimed, stage, state)
            assert (kept.status_code, kept.json()["effective"]) == (201, True)
    dataset.refresh_from_db()
    assert (dataset.state, dataset.manifest_sha256, dataset.manifest_fence) == ("completed", MANIFEST, 1)
    assert (dataset.lease_owner, dataset.lease_expires, dataset.claim) == (None, None, None)
    assert Claim.objects.get().end_reason == "completed"
    assert api.get("/api/statuses/", {"dataset": dataset.pk}).json()["count"] == 6
    assert api.get("/api/statuses/", {"dataset": dataset.pk + 1}).json()["count"] == 0


@pytest.mark.parametrize("stage", Stage)
def test_a_fail_of_any_stage_is_final(api: APIClient, claimed, dataset: Dataset, stage: Stage) -> None:
    assert status(api, claimed, stage, FAIL, note="no space left").json()["effective"]
    late = status(api, claimed, stage, SUCCESS)
    assert (late.status_code, late.json()["effective"], late.json()["refusal"]) == (201, False, "final")
    dataset.refresh_from_db()
    assert (dataset.state, dataset.manifest_sha256) == ("failed", "")
    assert claim(api).status_code == 204


def test_a_late_fail_after_success_changes_nothing(api: APIClient, claimed, dataset: Dataset) -> None:
    status(api, claimed, Stage.UPLOAD, SUCCESS)
    assert not status(api, claimed, Stage.UPLOAD, FAIL).json()["effective"]
    dataset.refresh_from_db()
    assert dataset.state == "completed"


def test_a_run_never_goes_backwards(api: APIClient, claimed) -> None:
    assert status(api, claimed, Stage.SETUP, SUCCESS).json()["effective"]
    assert status(api, claimed, Stage.SETUP, START).json()["refusal"] == "backwards"
    assert status(api, claimed, Stage.SETUP, FAIL).json()["refusal"] == "backwards"
    assert status(api, claimed, Stage.WORKFLOW, START).json()["effective"]
    assert status(api, claimed, Stage.SETUP, FAIL).json()["refusal"] == "backwards"
    assert Dataset.objects.get().state == "running"


def test_the_same_event_again_is_answered_as_before(api: APIClient, claimed) -> None:
    first = status(api, claimed, Stage.SETUP, START, event_id="e")
    for _ in range(3):
        again = status(api, claimed, Stage.SETUP, START, event_id="e")
        assert (again.status_code, again.json()) == (200, first.json())
    other = status(api, claimed, Stage.SETUP, START, event_id="e", note="other")
    assert (other.status_code, other.json()["code"]) == (422, "event_differs")
    assert Status.objects.count() == 1


def test_an_old_attempts_fail_after_a_new_claim_is_history(
    api: APIClient, bobs_api: APIClient, claimed, dataset: Dataset
) -> None:
    expire(dataset.pk)
    second = claim(bobs_api).json()
    for _ in range(2):
        late = status(api, claimed, Stage.SETUP, FAIL, event_id="late")
        assert (late.status_code, late.json()["code"]) == (409, "fence")
    assert status(api, {**claimed, "fence": second["fence"]}, Stage.SETUP, FAIL).status_code == 409
    dataset.refresh_from_db()
    assert (dataset.state, dataset.fence) == ("running", 2)
    assert Status.objects.filter(effective=False).count() == 2


def test_success_after_expiry_but_before_takeover_counts(api: APIClient, claimed, dataset: Dataset) -> None:
    expire(dataset.pk)
    assert status(api, claimed, Stage.UPLOAD, SUCCESS).json()["effective"]
    dataset.refresh_from_db()
    assert dataset.state == "completed"


def test_after_a_release_the_claim_has_ended(api: APIClient, claimed) -> None:
    api.post(f"/api/claims/{claimed['claim']}/release/", {"fence": 1}, format="json")
    late = status(api, claimed, Stage.UPLOAD, SUCCESS)
    assert (late.status_code, late.json()["code"]) == (409, "claim_ended")
    assert Dataset.objects.get().state == "unprocessed"


def test_what_a_claims_status_needs(api: APIClient, claimed, project) -> None:
    from server.services import catalogue

    other = catalogue.create_dataset(project, name="Two")
    assert status(api, claimed, Stage.UPLOAD, SUCCESS, manifest_sha256="").json()["code"] == "no_manifest"
    assert status(api, claimed, Stage.SETUP, START, dataset=other.pk).json()["code"] == "other_dataset"
    assert status(api, claimed, Stage.SETUP, START, dataset=10**6).status_code == 404
    assert status(api, claimed, Stage.SETUP, START, claim=10**6).status_code == 404
    assert status(api, claimed, Stage.SETUP, START, event_id="").json() == {
        "event_id": ["A status of a claim needs it."]
    }
    assert status(api, claimed, Stage.SETUP, START, fence=None).status_code == 400
    assert status(api, claimed, 4, START).status_code == 400
    assert not Status.objects.exists()


@pytest.mark.parametrize("wrong", ["not a sum", MANIFEST[:-1], MANIFEST + "0", MANIFEST.upper(), "g" * 64])
def test_a_commit_needs_a_sum(api: APIClient, claimed, dataset: Dataset, wrong: str) -> None:
    refused = status(api, claimed, Stage.UPLOAD, SUCCESS, manifest_sha256=wrong)
    assert (refused.status_code, list(refused.json())) == (400, ["manifest_sha256"])
    assert not Status.objects.exists()
    assert Dataset.objects.get().state == "running"


def test_an_old_client_commits_no_manifest(api: APIClient, dataset: Dataset) -> None:
    old_status(api, dataset, Stage.SETUP, START)
    for sum_ in ("not a sum", MANIFEST):
        assert old_status(api, dataset, Stage.UPLOAD, SUCCESS, manifest_sha256=sum_).status_code == 201
    dataset.refresh_from_db()
    assert (dataset.state, dataset.manifest_sha256) == ("completed", "")


def test_the_flow_run_of_a_status_becomes_the_claims(api: APIClient, claimed) -> None:
    status(api, claimed, Stage.SETUP, START, flow_run_id="f-1", flow_run_url="http://127.0.0.1:4200/runs/f-1")
    assert Claim.objects.get().flow_run_url == "http://127.0.0.1:4200/runs/f-1"
    assert Status.objects.get().flow_run_id == "f-1"


def test_a_fail_arrives_whatever_its_text_and_diagnostics(api: APIClient, claimed) -> None:
    sent = status(
        api,
        claimed,
        Stage.SETUP,
        FAIL,
        note="a\x00\x1b[1;31mb\x1b[0m\ud800" + "x" * 100_000 + "end",
        hostname="h" * 1000,
    )
    assert sent.status_code == 201
    kept = Status.objects.get()
    assert len(kept.note.encode()) <= NOTE_BYTES
    assert kept.note.startswith("ab?xx")
    assert kept.note.endswith("end")
    assert kept.hostname == "h" * 255


def test_every_diagnostic_of_the_contract_is_kept(api: APIClient, claimed) -> None:
    told = {name: "x" if kind is str else 2**40 for name, kind in DIAGNOSTICS.items()}
    kept = status(api, claimed, Stage.SETUP, START, **told).json()
    assert {name: kept[name] for name in DIAGNOSTICS} == told
    assert {field.name for field in Diagnostics._meta.get_fields()} == set(DIAGNOSTICS)


def test_an_old_client_needs_no_claim(api: APIClient, dataset: Dataset) -> None:
    assert old_status(api, dataset, Stage.SETUP, START).json()["effective"]
    dataset.refresh_from_db()
    assert (dataset.state, dataset.fence, dataset.claim, dataset.lease_owner) == ("running", 1, None, None)
    assert claim(api).status_code == 204
    assert claim(api, dataset="birds:one").json()["code"] == "leased"
    for stage, state in [(1, SUCCESS), (2, START), (2, SUCCESS), (3, START), (3, SUCCESS)]:
        assert old_status(api, dataset, Stage(stage), state).json()["effective"]
    dataset.refresh_from_db()
    assert (dataset.state, dataset.manifest_sha256, dataset.manifest_fence) == ("completed", "", 1)


def test_an_old_clients_silence_frees_the_dataset(api: APIClient, dataset: Dataset) -> None:
    old_status(api, dataset, Stage.SETUP, START)
    expire(dataset.pk)
    assert claim(api).json()["fence"] == 2
    late = old_status(api, dataset, Stage.UPLOAD, SUCCESS)
    assert (late.status_code, late.json()["effective"], late.json()["refusal"]) == (201, False, "no_run")
    expire(dataset.pk)
    assert old_status(api, dataset, Stage.SETUP, START).json()["effective"]
    dataset.refresh_from_db()
    assert (dataset.fence, dataset.claim) == (3, None)


def test_a_status_without_a_claim_never_touches_a_claimed_or_finished_dataset(
    api: APIClient, claimed, dataset: Dataset
) -> None:
    for state in State:
        assert not old_status(api, dataset, Stage.SETUP, state).json()["effective"]
    status(api, claimed, Stage.UPLOAD, SUCCESS)
    for state in State:
        assert not old_status(api, dataset, Stage.UPLOAD, state).json()["effective"]
    dataset.refresh_from_db()
    assert (dataset.state, dataset.fence) == ("completed", 1)


def test_a_held_dataset_is_not_started_by_an_old_client(api: APIClient, dataset: Dataset) -> None:
    Dataset.objects.update(locked=True)
    assert not old_status(api, dataset, Stage.SETUP, START).json()["effective"]
    assert Dataset.objects.get().state == "unprocessed"


def test_a_status_for_another_servers_claim_is_refused(api: APIClient, dataset: Dataset) -> None:
    """A client that kept its directory, while its server was made anew, has statuses whose numbers fit by chance."""
    claimed = claim(api).json()
    refused = status(api, claimed, Stage.UPLOAD, State.SUCCESS, site="00000000-0000-0000-0000-000000000000")
    assert (refused.status_code, refused.json()["code"]) == (422, "other_site")
    dataset.refresh_from_db()
    assert (dataset.state, Status.objects.count()) == ("running", 0)
    assert status(api, claimed, Stage.SETUP, State.START, site=claimed["site"]).json()["effective"]
