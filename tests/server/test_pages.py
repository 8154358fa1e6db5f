"""The pages: who sees what, that text stays text, and that a page costs the same however many rows there are."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from typing import Any
from urllib.parse import quote

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from rest_framework.authtoken.models import Token

from crunch_tasks.contract import ClaimRequest, Stage, State
from server.models import Attribute, Dataset, LogTail, Project, Status
from server.services import catalogue, claims, statuses
from server.services.statuses import Event
from tests.support.calls import signed_in

STEPS = [(stage, state) for stage in Stage for state in (State.START, State.SUCCESS)]


@pytest.fixture
def visitor(db: None) -> Client:
    """Not signed in."""
    return Client()


@pytest.fixture(autouse=True)
def _folder_storage(settings: Any, tmp_path: Any) -> Iterator[None]:
    options = {"location": str(tmp_path), "allow_overwrite": True}
    default = {"BACKEND": "django.core.files.storage.FileSystemStorage", "OPTIONS": options}
    settings.STORAGES = {**settings.STORAGES, "default": default}
    yield


def address(dataset: Dataset, rest: str = "") -> str:
    return f"/projects/{dataset.project.slug}/datasets/{dataset.slug}{rest}"


def take(user: User, dataset: Dataset, steps: int, **values: Any) -> Any:
    """Claim the dataset and report the first `steps` updates of a good run; `fail` makes the last a Fail."""
    fail = values.pop("fail", "")
    request = ClaimRequest(request_id=f"{dataset.pk}-{dataset.fence}", dataset=dataset.slug, **values)
    taken = claims.claim(user, request)
    assert taken is not None
    claim = taken[0]
    for number, (stage, state) in enumerate(STEPS[:steps], start=1):
        last = fail and number == steps
        event = Event(
            dataset=dataset.pk,
            stage=stage,
            state=State.FAIL if last else state,
            note=fail if last else "",
            claim=claim.pk,
            fence=claim.fence,
            event_id=f"{claim.pk}-{number}",
            manifest_sha256="0" * 64 if (stage, state) == STEPS[-1] else "",
            diagnostics={"hostname": "node-7", "mac_address": "aa:bb:cc:dd:ee:ff"},
        )
        statuses.record(user, event)
    dataset.refresh_from_db()
    return claim


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
        assert visitor.get(f"/projects/{dataset.project.slug}/{act}").status_code == 403


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


def words(response: Any) -> str:
    return re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", response.content.decode()))


def test_an_expired_lease_is_said_to_be_one(browser: Client, alice: User, dataset: Dataset) -> None:
    take(alice, dataset, 3)
    assert "running, lease expired" not in words(browser.get(address(dataset)))
    Dataset.objects.update(lease_expires=timezone.now() - dt.timedelta(minutes=1))
    for path in (address(dataset), f"/projects/{dataset.project.slug}/?state=running"):
        assert "running, lease expired" in words(browser.get(path))


def test_progress_of_the_workflow(browser: Client, alice: User, dataset: Dataset) -> None:
    claim = take(alice, dataset, 3)
    for strange in ({"done": "3", "total": []}, {"done": 9, "total": 4}, {"stage": 2}):
        claims.heartbeat(alice, claim.pk, claim.fence, strange)
        assert "steps" not in words(browser.get(address(dataset)))
    claims.heartbeat(alice, claim.pk, claim.fence, {"done": 3, "total": 7})
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


# --- buttons ---------------------------------------------------------------------------------------------------------


def test_hold_and_let_go(browser: Client, dataset: Dataset) -> None:
    browser.post(address(dataset, "/hold"))
    dataset.refresh_from_db()
    assert dataset.locked
    assert "Let go" in words(browser.get(address(dataset)))
    browser.post(address(dataset, "/let-go"))
    dataset.refresh_from_db()
    assert not dataset.locked


def test_cancel_asks_the_client_once(browser: Client, alice: User, dataset: Dataset) -> None:
    claim = take(alice, dataset, 3)
    browser.post(address(dataset, "/cancel"))
    claim.refresh_from_db()
    assert claim.cancelled_by == alice
    page = words(browser.get(address(dataset)))
    assert "cancel asked for" in page and "Cancel run" not in page
    assert "no run to cancel" in words(browser.post(address(dataset, "/cancel"), follow=True))


def test_a_stale_page_does_not_retry_a_new_run(browser: Client, alice: User, dataset: Dataset) -> None:
    take(alice, dataset, 3)
    answer = browser.post(address(dataset, "/retry"), follow=True)
    assert "Cancel its run on its page first" in words(answer)
    dataset.refresh_from_db()
    assert dataset.state == "running"


def form_of(browser: Client, dataset: Dataset, button: str) -> dict[str, str]:
    """What the form with this button would send."""
    page = browser.get(address(dataset)).content.decode()
    (form,) = [form for form in re.findall(r"<form.*?</form>", page, re.DOTALL) if button in form]
    return dict(re.findall(r'name="(\w+)" value="([^"]*)"', form))


def test_a_page_of_before_the_last_run_does_not_retry_what_came_since(
    browser: Client, alice: User, dataset: Dataset
) -> None:
    take(alice, dataset, 6)
    old = form_of(browser, dataset, ">Retry<")
    take(alice, dataset, 6)
    answer = browser.post(address(dataset, "/retry"), old, follow=True)
    assert "meanwhile" in words(answer)
    dataset.refresh_from_db()
    assert dataset.state == "completed"
    browser.post(address(dataset, "/retry"), form_of(browser, dataset, ">Retry<"))
    dataset.refresh_from_db()
    assert (dataset.state, dataset.manifest_sha256) == ("unprocessed", "0" * 64)


def test_a_retry_may_take_the_files_as_they_are(browser: Client, alice: User, dataset: Dataset, tmp_path: Any) -> None:
    folder = tmp_path / dataset.base_file_path
    folder.mkdir(parents=True)
    (folder / "new.txt").write_text("new")
    assert "taking the files" not in words(browser.get(address(dataset)))
    take(alice, dataset, 6)
    assert "new.txt" not in words(browser.get(address(dataset)))
    browser.post(address(dataset, "/retry"), form_of(browser, dataset, "Retry, taking the files as they are"))
    dataset.refresh_from_db()
    assert (dataset.state, dataset.manifest_sha256, dataset.manifest_fence) == ("unprocessed", "", 2)
    assert "new.txt" in words(browser.get(address(dataset)))


def test_a_held_dataset_that_is_retried_stays_held(browser: Client, alice: User, dataset: Dataset) -> None:
    take(alice, dataset, 6)
    browser.post(address(dataset, "/hold"))
    assert "It is held: let it go" in words(browser.post(address(dataset, "/retry"), follow=True))
    assert "unprocessed already" in words(browser.post(address(dataset, "/retry"), follow=True))
    dataset.refresh_from_db()
    assert (dataset.state, dataset.locked, dataset.fence) == ("unprocessed", True, 2)


def test_all_failed_of_a_project_are_shown_and_then_retried(browser: Client, alice: User, project: Project) -> None:
    page = f"/projects/{project.slug}/retry"
    assert "Retry failed" not in words(browser.get(f"/projects/{project.slug}/"))
    assert "No dataset of this project has failed" in words(browser.get(page))
    for name in ("a", "b", "c"):
        take(alice, catalogue.create_dataset(project, name=name), 2 if name != "c" else 6, fail="no" * (name != "c"))
    assert page in browser.get(f"/projects/{project.slug}/").content.decode()
    asked = words(browser.get(page))
    assert "2 datasets have failed" in asked and "birds:a birds:b " in asked and "birds:c" not in asked
    assert project.datasets.failed().count() == 2
    assert "2 failed datasets are unprocessed again" in words(browser.post(page, follow=True))
    assert project.datasets.unprocessed().count() == 2


def test_of_many_failed_some_are_named(
    browser: Client, alice: User, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("server.services.bulk.LISTED", 1)
    for name in ("a", "b"):
        take(alice, catalogue.create_dataset(project, name=name), 2, fail="no")
    assert "birds:a and 1 more" in words(browser.get(f"/projects/{project.slug}/retry"))


def test_nothing_changes_by_a_link_or_from_another_site(alice: User, dataset: Dataset) -> None:
    strict = Client(enforce_csrf_checks=True)
    strict.force_login(alice)
    assert strict.get(address(dataset, "/hold")).status_code == 405
    assert strict.post(address(dataset, "/hold")).status_code == 403
    dataset.refresh_from_db()
    assert not dataset.locked


# --- account ---------------------------------------------------------------------------------------------------------


def test_a_token_is_shown_to_its_owner_alone(visitor: Client, browser: Client, alice: User, bob: User) -> None:
    assert visitor.get("/account/").headers["Location"].startswith("/accounts/login/")
    assert "CRUNCH_TOKEN" not in browser.get("/account/").content.decode()
    key = Token.objects.create(user=alice).key
    page = browser.get("/account/")
    assert f"CRUNCH_TOKEN={key}" in page.content.decode()
    assert "export CRUNCH_URL=http://testserver\n" in page.content.decode()
    assert "no-store" in page.headers["Cache-Control"]
    visitor.force_login(bob)
    assert key not in visitor.get("/account/").content.decode()


def test_signing_in_does_not_lead_to_another_site(visitor: Client, alice: User) -> None:
    alice.set_password("pass")
    alice.save()
    form = {"username": "alice", "password": "pass", "next": "https://evil.example/"}
    assert visitor.post("/accounts/login/", form).headers["Location"] == "/"


# --- text stays text (X7) --------------------------------------------------------------------------------------------

EVIL = "<script>alert(1)</script><img src=x onerror=alert(2)>\"'><svg onload=alert(3)>"
MARKDOWN = (
    f"{EVIL}\n\n[a](javascript:alert(4)) ![b](http://evil.example/pixel.png) <javascript:alert(5)>\n\n"
    "[c](data:text/html,x) [d](JaVaScRiPt&colon;alert(6)) <a href='javascript:alert(7)'>e</a>\n\n[f](https://good.example)"
)


class Live(HTMLParser):
    """Gathers whatever could run, or load from elsewhere."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        if tag in ("script", "img", "iframe", "object", "embed", "base", "style"):
            own = (values.get("src") or "").startswith("/static/server/")
            if not (tag == "script" and own):
                self.found.append(self.get_starttag_text() or tag)
        for name, value in attrs:
            address = re.sub(r"[\s\x00-\x1f]", "", value or "").lower()
            scheme = address.split(":", 1)[0] if ":" in address.split("/", 1)[0] else ""
            linked = name in ("href", "src", "action", "formaction", "xlink:href")
            if name.startswith("on") or name == "style" or (linked and scheme not in ("", "http", "https", "mailto")):
                self.found.append(self.get_starttag_text() or tag)


def live(page: str) -> list[str]:
    parser = Live()
    parser.feed(page)
    return parser.found


def test_no_text_becomes_live_html(browser: Client, alice: User, tmp_path: Any) -> None:
    fields = {"name": EVIL, "description": EVIL, "details": MARKDOWN}
    project = catalogue.create_project(**fields, workflow=EVIL)
    dataset = catalogue.create_dataset(project, **fields)
    item = catalogue.create_item(dataset, **fields)
    for owner in (project, dataset, item):
        Attribute.objects.create(item=owner, kind="char", key=EVIL, text=EVIL)
        for bad in ("javascript:alert(8)", " javascript:alert(9)", "data:text/html,<script>", "//evil", "http://[bad"):
            Attribute.objects.create(item=owner, kind="url", key="u", text=bad)
    folder = tmp_path / dataset.base_file_path
    folder.mkdir(parents=True)
    for name in (
        "<script>alert(10)<",
        '" onclick="alert(11)',
        "javascript:alert(12)",
        "new\nline<img src=x>",
        "a?b#c%41",
    ):
        (folder / name).write_text("x")
    take(alice, dataset, 4, fail=EVIL, client=EVIL, flow_run_url="javascript:alert(13)")
    Status.objects.update(hostname=EVIL, agent_user=EVIL, version=EVIL)
    User.objects.filter(pk=alice.pk).update(username="<script>alert(14)")
    whole = f"/projects/{project.slug}/"
    acts = [f"{whole}failures", f"{whole}retry", f"{whole}hold?q={quote(EVIL)}", f"{whole}?q={quote(EVIL)}"]
    acts += [f"{whole}edit", f"{whole}new-dataset", address(dataset, "/edit"), address(dataset, "/delete")]
    for rest in ("edit", "delete", "new-attribute", f"attributes/{item.attributes.all()[0].pk}/edit"):
        acts.append(f"/items/{item.slug}/{rest}")
    acts.append(f"/items/{item.slug}/attributes/{item.attributes.all()[0].pk}/delete")
    for path in ("/", whole, *acts, address(dataset), f"/items/{item.slug}/", "/account/"):
        page = browser.get(path)
        assert page.status_code == 200
        assert live(page.content.decode()) == []
        assert "alert(" in page.content.decode()
    page = browser.get(address(dataset)).content.decode()
    assert 'href="https://good.example"' in page
    assert "cannot be used: it has a control character" in page
    for name in ("<script>alert(10)<", '" onclick="alert(11)', "javascript:alert(12)", "a?b#c%41"):
        (link,) = [
            link for link in re.findall(r'href="([^"]*)" download', page) if unescaped(link).endswith("/files/" + name)
        ]
        assert browser.get(link).getvalue() == b"x"


def unescaped(link: str) -> str:
    from html import unescape
    from urllib.parse import unquote

    return unquote(unescape(link))


def test_every_answer_has_the_policy(browser: Client, visitor: Client, dataset: Dataset) -> None:
    for path in ("/", address(dataset), "/accounts/login/", "/nowhere/", "/admin/login/", "/api/projects/"):
        policy = visitor.get(path).headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy


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
            address(dataset),
            f"/items/{part.slug}/",
        ]

    few = fill(5)
    at_first = queries(browser, "/")
    costs = [queries(browser, path) for path in few]
    assert [queries(browser, path) for path in fill(50)] == costs
    assert queries(browser, "/") == at_first
    assert max(costs) <= 12
