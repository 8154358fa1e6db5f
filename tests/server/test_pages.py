"""The pages: who sees what, what they say of a run, and that one costs the same however many rows there are."""

from __future__ import annotations

import datetime as dt

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from rest_framework.authtoken.models import Token

from crunch_tasks.contract import Stage, State
from server.models import Attribute, Change, Dataset, LogTail, Project
from server.services import catalogue, claims, statuses
from server.services.statuses import Event
from tests.support.calls import signed_in
from tests.support.pages import address, take, words

pytestmark = pytest.mark.usefixtures("storage_folder")


# --- rights ----------------------------------------------------------------------------------------------------------


def paths(dataset: Dataset) -> list[str]:
    item = catalogue.create_item(dataset, name="Part")
    project = f"/projects/{dataset.project.slug}/"
    return [project, f"{project}failures", address(dataset), f"/items/{item.slug}/"]


def test_a_private_project_is_not_there_for_visitors(visitor: Client, browser: Client, dataset: Dataset) -> None:
    pages = paths(dataset)
    for path in [*pages, address(dataset, "/files/a.txt")]:
        assert visitor.get(path).status_code == 404
    for path in pages:
        assert browser.get(path).status_code == 200
    assert "Birds" not in visitor.get("/").content.decode()
    assert "Birds" in browser.get("/").content.decode()


def test_a_public_project_is_seen_by_all_and_changed_by_none_of_them(visitor: Client, dataset: Dataset) -> None:
    Project.objects.update(visibility="public")
    assert "Birds" in visitor.get("/").content.decode()
    for path in paths(dataset):
        assert visitor.get(path).status_code == 200
    page = visitor.get(address(dataset)).content.decode()
    assert "<button" not in page
    for action in ("cancel", "retry", "hold", "let-go"):
        assert visitor.post(address(dataset, f"/{action}")).status_code == 403
    for act in ("retry", "reset", "hold", "let-go"):
        assert visitor.post(f"/projects/{dataset.project.slug}/{act}").status_code == 403
        refused = visitor.get(f"/projects/{dataset.project.slug}/{act}")
        assert refused.status_code == 403
        assert "You may not do this. Signing in may help." in refused.content.decode()


def test_visitors_learn_neither_names_nor_machines(
    visitor: Client, browser: Client, alice: User, dataset: Dataset
) -> None:
    Project.objects.update(visibility="public")
    take(alice, dataset, 3, client="secret-client", flow_run_url="http://prefect.internal/runs/1")
    for secret in ("alice", "node-7", "aa:bb:cc", "secret-client", "prefect.internal"):
        assert secret in browser.get(address(dataset)).content.decode()
        assert secret not in visitor.get(address(dataset)).content.decode()


def test_an_item_of_no_project_is_for_those_who_signed_in(visitor: Client, browser: Client) -> None:
    from server.models import Item

    Item.objects.create(name="Loose", slug="loose")
    assert visitor.get("/items/loose/").status_code == 404
    assert browser.get("/items/loose/").status_code == 200


def test_a_dataset_is_found_under_its_own_project_only(browser: Client, dataset: Dataset) -> None:
    catalogue.create_project(name="Other")
    assert browser.get(f"/projects/other/datasets/{dataset.slug}").status_code == 404


def test_the_item_address_of_a_dataset_leads_to_its_page(browser: Client, dataset: Dataset) -> None:
    assert browser.get(f"/items/{dataset.slug}/").headers["Location"] == address(dataset)


# --- what the pages say ----------------------------------------------------------------------------------------------


def test_an_expired_lease_is_said_to_be_one(browser: Client, alice: User, dataset: Dataset) -> None:
    take(alice, dataset, 3)
    assert "running, lease expired" not in words(browser.get(address(dataset)))
    Dataset.objects.update(lease_expires=timezone.now() - dt.timedelta(minutes=1))
    for path in (address(dataset), f"/projects/{dataset.project.slug}/?state=running"):
        assert "running, lease expired" in words(browser.get(path))


def test_progress_of_the_workflow(browser: Client, alice: User, dataset: Dataset) -> None:
    claim = take(alice, dataset, 3)
    for strange in ({"done": "3", "total": []}, {"done": 9, "total": 4}, {"stage": 2}):
        claims.heartbeat(alice, claim, claim.fence, strange)
        assert "steps" not in words(browser.get(address(dataset)))
    claims.heartbeat(alice, claim, claim.fence, {"done": 3, "total": 7})
    assert "3 of 7 steps" in words(browser.get(address(dataset)))


def test_the_last_lines_of_the_output_while_it_runs(browser: Client, alice: User, dataset: Dataset) -> None:
    take(alice, dataset, 3)
    api = signed_in(alice)

    def told(log_tail: str) -> str:
        body = {"fence": dataset.fence, "log_tail": log_tail}
        beat = api.post(f"/api/claims/{dataset.claim_id}/heartbeat/", body, format="json")
        assert beat.status_code == 200
        return browser.get(address(dataset)).content.decode()

    assert "Last lines" not in browser.get(address(dataset)).content.decode()
    assert "<pre>&lt;b&gt;step 1\n</pre>" in told("<b>step 1\n")
    assert "step 1" not in told("step 2\n")
    long = told("\x00old\n" + "x" * 9000 + "\nnew\n")
    assert "<pre>new\n</pre>" in long
    assert api.post(f"/api/claims/{dataset.claim_id}/heartbeat/", {"fence": dataset.fence}).status_code == 200
    assert "<pre>new\n</pre>" in browser.get(address(dataset)).content.decode()
    api.post(f"/api/claims/{dataset.claim_id}/release/", {"fence": dataset.fence})
    assert not LogTail.objects.exists()


def test_why_it_failed_is_on_top_and_history_stays(browser: Client, alice: User, dataset: Dataset) -> None:
    take(alice, dataset, 4, fail="rule plot: exit 3")
    page = words(browser.get(address(dataset)))
    assert page.count("rule plot: exit 3") == 2
    browser.post(address(dataset, "/retry"))
    dataset.refresh_from_db()
    assert dataset.state == "unprocessed"
    page = words(browser.get(address(dataset)))
    assert page.count("rule plot: exit 3") == 1
    assert page.count("not reached") == 3


def test_a_late_status_is_history_only(browser: Client, alice: User, dataset: Dataset) -> None:
    claim = take(alice, dataset, 6)
    statuses.record(
        alice, Event(dataset.pk, Stage.UPLOAD, State.FAIL, claim=claim.pk, fence=claim.fence, event_id="late")
    )
    page = words(browser.get(address(dataset)))
    assert "history only" in page
    assert "failed" not in page.split("Status history")[0]


def test_datasets_by_state(browser: Client, alice: User, project: Project) -> None:
    for name in ("d07", "d08"):
        catalogue.create_dataset(project, name=name)
    take(alice, Dataset.objects.get(name="d07"), 2, fail="no")
    first = words(browser.get(f"/projects/{project.slug}/"))
    assert "all 2" in first and "failed 1" in first
    failed = words(browser.get(f"/projects/{project.slug}/?state=failed"))
    assert "d07" in failed and "d08" not in failed
    for nonsense in ("?after=%00", "?after=%F0%9F", "?state=' OR 1=1", "?state=%00", "?failure=x", "?failure=9999"):
        assert browser.get(f"/projects/{project.slug}/{nonsense}").status_code == 200


# --- account ---------------------------------------------------------------------------------------------------------


def test_a_token_is_shown_to_its_owner_alone(visitor: Client, browser: Client, alice: User, bob: User) -> None:
    assert visitor.get("/account/").headers["Location"].startswith("/accounts/login/")
    without = browser.get("/account/")
    assert "CRUNCH_TOKEN" not in without.content.decode() and "You have none yet" in words(without)
    key = Token.objects.create(user=alice).key
    page = browser.get("/account/")
    assert f"CRUNCH_TOKEN={key}" in page.content.decode()
    assert "You have the plain one below" in words(page) and "none yet" not in words(page)
    assert "export CRUNCH_URL=http://testserver\n" in page.content.decode()
    assert "no-store" in page.headers["Cache-Control"]
    visitor.force_login(bob)
    assert key not in visitor.get("/account/").content.decode()


def test_signing_in_does_not_lead_to_another_site(visitor: Client, alice: User) -> None:
    alice.set_password("pass")
    alice.save()
    form = {"username": "alice", "password": "pass", "next": "https://evil.example/"}
    assert visitor.post("/accounts/login/", form).headers["Location"] == "/"


# --- cost ------------------------------------------------------------------------------------------------------------


def queries(browser: Client, path: str) -> int:
    with CaptureQueriesContext(connection) as captured:
        assert browser.get(path).status_code == 200
    return len(captured)


def test_a_page_asks_the_database_as_often_for_5_rows_as_for_50(browser: Client, alice: User) -> None:
    def fill(count: int) -> list[str]:
        project = catalogue.create_project(name=f"p{count}")
        for number in range(count):
            catalogue.create_project(name=f"p{count} {number}")
            dataset = catalogue.create_dataset(project, name=f"d{number}")
            take(alice, dataset, 3)
            Attribute.objects.create(item=project, kind="int", key="k", integer=number)
            catalogue.create_item(project, name=f"part {number}")
        for number in range(count):
            Attribute.objects.create(item=dataset, kind="int", key="k", integer=number)
            Attribute.objects.create(item=dataset, kind="lat-long", key="k", latitude=number, longitude=1)
            Change.objects.create(project=project, user=alice, act="edit", target=str(number))
            part = catalogue.create_item(dataset, name=f"part {number}")
            Attribute.objects.create(item=part, kind="int", key="k", integer=number)
        history = dataset.statuses.get(stage=1, state=1)
        for number in range(count):
            history.pk, history.event_id = None, f"copy-{history.dataset_id}-{number}"
            history.save()
        return [
            f"/projects/{project.slug}/",
            f"/projects/{project.slug}/?state=running&sort=updated",
            f"/projects/{project.slug}/failures",
            f"/projects/{project.slug}/map",
            f"/projects/{project.slug}/changes",
            address(dataset),
            f"/items/{part.slug}/",
        ]

    few = fill(5)
    at_first = queries(browser, "/")
    costs = [queries(browser, path) for path in few]
    assert [queries(browser, path) for path in fill(50)] == costs
    assert queries(browser, "/") == at_first
    assert max(costs) <= 12
