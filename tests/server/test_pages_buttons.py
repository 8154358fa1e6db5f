"""The buttons of a dataset's page and of its project's: hold, cancel, retry, and what they refuse."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from django.contrib.auth.models import User
from django.test import Client

from crunch_tasks.files.plan import TAKE_FILES
from server.models import Dataset, Project
from server.services import catalogue
from tests.support.pages import address, take, words

pytestmark = pytest.mark.usefixtures("storage_folder")


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


def test_a_retry_may_take_the_files_as_they_are(browser: Client, alice: User, dataset: Dataset, folder: Path) -> None:
    (folder / "new.txt").write_text("new")
    assert "taking the files" not in words(browser.get(address(dataset)))
    take(alice, dataset, 6)
    text = words(browser.get(address(dataset)))
    assert "new.txt" not in text
    # What other pages send people to is there under this name.
    assert TAKE_FILES.split('"')[1] in text
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
    assert "This project is empty" in words(browser.get(page))
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
