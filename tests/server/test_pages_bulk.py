"""Acts on many datasets at once, and failures in groups: what the pages show first, and what is done then."""

from __future__ import annotations

import itertools
import re
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import transaction
from django.test import Client
from rest_framework.test import APIClient

from crunch_tasks.contract import ClaimRequest, DatasetState, Stage, State
from crunch_tasks.errors import Refused
from server.models import Change, Dataset, Failure, Project
from server.services import bulk, catalogue, claims, statuses
from server.services.bulk import Operation
from server.services.selection import Selection
from server.services.statuses import Event

OUTPUT = "The script ended with exit code 1.\n\nLast lines of its output:\n"
PROJECT = "/projects/birds/"


@pytest.fixture
def birds(alice: User, project: Project) -> Project:
    """Three that failed, two of them alike; one that is completed and one that waits, both named egg."""
    for name, note in (("reads 1", "KeyError: 'a1'"), ("reads 2", "KeyError: 'a22'"), ("other", "Killed")):
        report(alice, catalogue.create_dataset(project, name=name), Stage.WORKFLOW, State.FAIL, OUTPUT + note)
    report(alice, catalogue.create_dataset(project, name="egg 1"), Stage.UPLOAD, State.SUCCESS)
    catalogue.create_dataset(project, name="egg 2")
    return project


def report(user: User, dataset: Dataset, stage: Stage, state: State, note: str = "") -> None:
    """A run of an old client, which goes from Setup's Start to this."""
    statuses.record(user, Event(dataset.pk, Stage.SETUP, State.START))
    statuses.record(user, Event(dataset.pk, stage, state, note=note))


def words(response: Any) -> str:
    return re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", response.content.decode()))


def states(project: Project) -> str:
    """The first letter of each dataset's state, and h for those that are held."""
    rows = project.datasets.order_by("pk").values_list("state", "locked")
    return " ".join(state[0] + "h" * locked for state, locked in rows)


# --- acts on a selection ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("act", "query", "foretold", "told", "after"),
    [
        ("retry", "", "3 datasets have failed", "3 failed datasets are unprocessed again", "u u u c u"),
        ("retry", "?q=reads", "2 datasets have failed", "2 failed datasets are unprocessed again", "u u f c u"),
        ("reset", "?q=egg", "1 dataset would start over", "1 dataset is unprocessed again", "f f f u u"),
        ("reset", "?state=failed&q=o", "1 dataset would start over", "1 dataset is unprocessed again", "f f u c u"),
        ("hold", "?q=egg", "Nobody claims 2 datasets until", "2 datasets are held", "f f f ch uh"),
        ("hold", "?state=unprocessed", "Nobody claims 1 dataset until", "1 dataset is held", "f f f c uh"),
    ],
)
def test_what_an_act_would_do_is_shown_and_then_done(
    browser: Client, birds: Project, act: str, query: str, foretold: str, told: str, after: str
) -> None:
    before = states(birds)
    assert foretold in words(browser.get(f"{PROJECT}{act}{query}"))
    assert states(birds) == before
    assert told in words(browser.post(f"{PROJECT}{act}{query}", follow=True))
    assert states(birds) == after


def test_what_is_held_is_let_go(browser: Client, birds: Project) -> None:
    browser.post(f"{PROJECT}hold")
    assert states(birds) == "fh fh fh ch uh"
    assert "3 of them are held and wait until they are let go" in words(browser.get(f"{PROJECT}retry"))
    assert "3 datasets are let go" in words(browser.post(f"{PROJECT}let-go?state=failed", follow=True))
    assert states(birds) == "f f f ch uh"
    assert "No dataset of this selection is held" in words(browser.get(f"{PROJECT}let-go?state=failed"))


@pytest.mark.parametrize("act", ["retry", "hold", "let-go"])
def test_of_an_empty_selection_it_is_said_that_it_is_empty(browser: Client, project: Project, act: str) -> None:
    assert "This project is empty." in words(browser.get(f"{PROJECT}{act}"))
    catalogue.create_dataset(project, name="One", locked=True)
    assert "This selection is empty." in words(browser.get(f"{PROJECT}{act}?state=running"))
    assert "This selection is empty." in words(browser.get(f"{PROJECT}{act}?q=two"))
    assert act == "let-go" or "No dataset of this project" in words(browser.get(f"{PROJECT}{act}"))


def test_a_reset_takes_datasets_from_those_who_have_them(
    browser: Client, alice: User, birds: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("server.services.bulk.BATCH", 2)
    taken = claims.claim(alice, ClaimRequest("r1", project="birds"))
    assert taken is not None
    asked = words(browser.get(f"{PROJECT}reset"))
    assert "5 datasets would start over" in asked and "1 of them is being processed now" in asked
    browser.post(f"{PROJECT}reset")
    assert states(birds) == "u u u u u"
    with pytest.raises(Refused) as lost:
        claims.heartbeat(alice, taken[0], taken[0].fence)
    assert "the claim has ended: Reset" in str(lost.value)


def test_of_an_act_that_died_in_its_middle_the_audit_trail_tells_what_was_done(
    browser: Client, api: APIClient, birds: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("server.services.bulk.BATCH", 2)
    change, calls = bulk._change, []

    def die_at_the_third(pks: list[int], operation: Operation) -> None:
        if len(calls) == 2:
            raise KeyboardInterrupt
        calls.append(pks)
        change(pks, operation)

    monkeypatch.setattr(bulk, "_change", die_at_the_third)
    with pytest.raises(KeyboardInterrupt):
        browser.post(f"{PROJECT}hold")
    monkeypatch.setattr(bulk, "_change", change)
    lines = Change.objects.filter(act="hold").order_by("pk")
    held = birds.datasets.filter(locked=True).count()
    assert [line.after["count"] for line in lines if line.after] == [4]
    browser.post(f"{PROJECT}hold")
    api.post("/api/projects/birds/operations/", {"operation": "let-go", "search": "reads"}, format="json")
    assert [line.after["count"] for line in lines.all() if line.after] == [4, 5 - held]
    (let_go,) = Change.objects.filter(act="let-go")
    count = birds.datasets.filter(locked=False).count()
    assert let_go.after == {"count": count, "state": "", "search": "reads", "failure": None}


def test_the_page_offers_the_acts_for_what_it_lists(browser: Client, birds: Project) -> None:
    page = browser.get(f"{PROJECT}?state=failed&q=reads&after=reads-1").content.decode()
    (link,) = re.findall(r'href="([^"]*)">Reset…', page)
    assert link == f"{PROJECT}reset?state=failed&amp;q=reads"


@pytest.mark.parametrize("filters", ["?state=faild", "?failure=x", "?failure=1e9", "?q=egg&state=%00"])
def test_a_filter_that_is_not_understood_selects_nothing(browser: Client, birds: Project, filters: str) -> None:
    before = states(birds)
    assert browser.get(f"{PROJECT}reset{filters}").status_code == 404
    assert browser.post(f"{PROJECT}reset{filters}").status_code == 404
    assert states(birds) == before


def test_of_a_search_so_many_are_counted_and_no_more(
    browser: Client, birds: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("server.services.bulk.MOST_COUNTED", 2)
    monkeypatch.setattr("server.services.bulk.LISTED", 1)
    birds.datasets.filter(key="other").update(key="reads-3")
    page = words(browser.get(f"{PROJECT}retry?q=reads"))
    assert "More than 2 datasets have failed" in page and "Retry more than 2 datasets" in page
    assert "birds:reads-1 and more than 1 more" in page
    assert "1 dataset has failed" in words(browser.get(f"{PROJECT}retry?q=reads-3"))
    assert "3 datasets have failed" in words(browser.get(f"{PROJECT}retry"))


def test_what_is_foretold_is_what_is_done(birds: Project, alice: User) -> None:
    assert claims.claim(alice, ClaimRequest("r1", project="birds")) is not None
    catalogue.create_dataset(birds, name="egg 3")
    birds.datasets.filter(key__in=["egg-3", "reads-2"]).update(locked=True)
    group = Failure.objects.get(signature__contains="KeyError")
    for operation, state, failure in itertools.product(Operation, ["", *DatasetState], [None, group.pk]):
        chosen = Selection(birds, state=state, failure=failure)
        would = bulk.perform(chosen, operation, dry_run=True)
        with transaction.atomic():
            assert bulk.perform(chosen, operation) == would
            transaction.set_rollback(True)


def test_a_search_for_a_blank_means_all_for_the_acts_as_for_the_page(browser: Client, birds: Project) -> None:
    page = browser.get(f"{PROJECT}?q=%20").content.decode()
    for act in ("Hold…", "Reset…"):
        (link,) = re.findall(rf'href="([^"]*)">{act}', page)
        assert "?q=" in link and browser.get(link).status_code == 200
    assert "5 datasets are held" in words(browser.post(f"{PROJECT}hold?q=%20", follow=True))


# --- failures in groups ----------------------------------------------------------------------------------------------


def test_failures_that_are_alike_are_one_group_which_is_retried(browser: Client, birds: Project) -> None:
    page = words(browser.get(f"{PROJECT}failures"))
    assert "3 datasets failed, for 2 reasons" in page
    assert page.index("KeyError: ") < page.index("Killed")
    (group,) = Failure.objects.filter(signature__contains="KeyError")
    listed = browser.get(f"{PROJECT}?state=failed&failure={group.pk}").content.decode()
    assert re.findall(r"<small>(birds:[^<]*)", listed) == ["birds:reads-1", "birds:reads-2"]
    retry = f"{PROJECT}retry?failure={group.pk}"
    assert "2 datasets have failed" in words(browser.get(retry))
    browser.post(retry)
    assert states(birds) == "u u f c u"
    page = words(browser.get(f"{PROJECT}failures"))
    assert "KeyError" not in page and "1 dataset failed, for 1 reason." in page


def test_another_projects_group_selects_nothing(browser: Client, birds: Project) -> None:
    catalogue.create_project(name="Other")
    group = Failure.objects.filter(project=birds)[0]
    assert "This selection is empty" in words(browser.get(f"/projects/other/retry?failure={group.pk}"))
    assert group.signature not in words(browser.get(f"/projects/other/?failure={group.pk}"))


def test_without_failures_the_page_says_so(browser: Client, project: Project) -> None:
    assert "No dataset of this project is failed now" in words(browser.get(f"{PROJECT}failures"))
