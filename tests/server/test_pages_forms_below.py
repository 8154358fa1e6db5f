"""The forms of what is below a project: attributes of every kind, items, and what deleting says and takes along."""

from __future__ import annotations

import datetime as dt
import re
from decimal import Decimal
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client

from crunch_tasks.contract import ClaimRequest
from server.models import Attribute, Change, Dataset, Item, Project
from server.services import catalogue, claims
from tests.support.forms import member, owner, owners, project, send

__all__ = ["owner", "owners", "project"]

PROJECT = "/projects/birds/edit"
DATASET = "/projects/birds/datasets/birds:one/edit"


@pytest.mark.parametrize(
    ("kind", "typed", "kept"),
    [
        ("char", {"value": " two\r\nlines "}, {"text": " two\nlines "}),
        ("float", {"value": "-1.5e3"}, {"number": -1500.0}),
        ("int", {"value": "-3"}, {"integer": -3}),
        ("filesize", {"value": "9007199254740993"}, {"integer": 9007199254740993}),
        ("bool", {"value": "false"}, {"boolean": False}),
        ("date", {"value": "2026-02-28"}, {"date": dt.date(2026, 2, 28)}),
        ("datetime", {"value": "2026-02-28T13:14:15"}, {"moment": dt.datetime(2026, 2, 28, 13, 14, 15, tzinfo=dt.UTC)}),
        ("url", {"value": "https://example.org/?a=b"}, {"text": "https://example.org/?a=b"}),
        (
            "lat-long",
            {"latitude": "-12.5", "longitude": "179.123456789"},
            {"latitude": Decimal("-12.5"), "longitude": Decimal("179.123456789")},
        ),
    ],
)
def test_an_attribute_of_each_kind_is_added_and_an_unedited_form_keeps_it(
    owners: Client, project: Project, kind: str, typed: dict[str, str], kept: dict[str, Any]
) -> None:
    answer = send(owners, f"/items/birds/new-attribute?kind={kind}", key="k", **typed)
    assert answer.headers["Location"] == "/projects/birds/"
    made = Attribute.objects.values().get()
    assert {name: made[name] for name in kept} == kept
    edit = f"/items/birds/attributes/{made['id']}/edit"
    assert f'href="{edit}"' in owners.get("/projects/birds/").content.decode()
    assert send(owners, edit).status_code == 302
    assert Attribute.objects.values().get() == made
    send(owners, edit, key="other")
    assert Attribute.objects.values().get() == {**made, "key": "other"}
    assert [change.act for change in Change.objects.all()] == ["edit", "create"]


def test_a_moment_keeps_the_parts_of_its_second_when_its_key_alone_is_edited(owners: Client, project: Project) -> None:
    moment = dt.datetime(2026, 1, 2, 3, 4, 5, 678, tzinfo=dt.UTC)
    made = Attribute.objects.create(item=project, kind="datetime", key="k", moment=moment)
    send(owners, f"/items/birds/attributes/{made.pk}/edit", key="other")
    made.refresh_from_db()
    assert (made.key, made.moment) == ("other", moment)


@pytest.mark.parametrize(
    ("kind", "typed"),
    [
        ("float", {"value": "nan"}),
        ("int", {"value": "9223372036854775808"}),
        ("filesize", {"value": "-1"}),
        ("bool", {"value": "perhaps"}),
        ("date", {"value": "2026-02-30"}),
        ("datetime", {"value": ""}),
        ("url", {"value": "javascript:alert(1)"}),
        ("char", {"value": "x" * 1024}),
        ("char", {"value": "a\0b"}),
        ("lat-long", {"latitude": "91", "longitude": "0"}),
    ],
)
def test_a_value_that_its_kind_does_not_allow_is_refused_beside_its_field(
    owners: Client, project: Project, kind: str, typed: dict[str, str]
) -> None:
    page = send(owners, f"/items/birds/new-attribute?kind={kind}", key="k", **typed).content.decode()
    assert re.search(r'<p class="wrong" id="id_(value|latitude)_error">\w', page)
    assert not Attribute.objects.exists()


def test_an_unknown_kind_and_another_items_attribute_are_not_there(owners: Client, project: Project) -> None:
    assert owners.get("/items/birds/new-attribute?kind=penguin").status_code == 404
    catalogue.create_dataset(project, name="One")
    made = Attribute.objects.create(item=project, kind="int", key="k", integer=1)
    assert owners.get(f"/items/birds:one/attributes/{made.pk}/edit").status_code == 404
    assert owners.post(f"/items/birds:one/attributes/{made.pk}/delete").status_code == 404
    assert Attribute.objects.exists()


def test_items_are_made_below_anything_and_edited(owners: Client, project: Project) -> None:
    catalogue.create_dataset(project, name="One")
    assert send(owners, "/items/birds/new-item", name="Site").headers["Location"] == "/items/birds:site/"
    assert send(owners, "/items/birds:one/new-item", name="Nest").headers["Location"] == "/items/birds:one:nest/"
    assert send(owners, "/items/birds:one:nest/new-item", name="Egg", details="*blue*").status_code == 302
    assert send(owners, "/items/birds:one:nest:egg/edit", description="One of two").status_code == 302
    assert Item.objects.get(slug="birds:one:nest:egg").description == "One of two"
    # A project and a dataset have forms of their own, with the rights that those need.
    assert owners.get("/items/birds/edit").status_code == 404
    assert owners.post("/items/birds:one/delete").status_code == 404


# --- deleting --------------------------------------------------------------------------------------------------------


def test_deleting_asks_first_and_says_what_goes_and_what_stays(owners: Client, project: Project) -> None:
    dataset = catalogue.create_dataset(project, name="One")
    nest = catalogue.create_item(dataset, name="Nest")
    made = Attribute.objects.create(item=nest, kind="int", key="eggs", integer=3)
    page = owners.get("/projects/birds/datasets/birds:one/delete").content.decode()
    assert "With it go 0 attributes, 1 item with all below it and 0 statuses." in page
    assert "Its files stay in the storage, at birds/one/." in page
    assert "Its value is 3." in owners.get(f"/items/birds:one:nest/attributes/{made.pk}/delete").content.decode()
    assert Dataset.objects.exists()
    for path, back in (
        (f"/items/birds:one:nest/attributes/{made.pk}/delete", "/items/birds:one:nest/"),
        ("/items/birds:one:nest/delete", "/projects/birds/datasets/birds:one"),
        ("/projects/birds/datasets/birds:one/delete", "/projects/birds/"),
    ):
        assert owners.post(path).headers["Location"] == back
    assert list(Item.objects.values_list("slug", flat=True)) == ["birds"]
    targets = [(change.act, change.target) for change in Change.objects.all()]
    assert targets == [("delete", "birds:one"), ("delete", "birds:one:nest"), ("delete", "birds:one:nest eggs")]


def test_deleting_says_that_a_run_is_lost(owner: User, owners: Client, project: Project) -> None:
    catalogue.create_dataset(project, name="One")
    claims.claim(owner, ClaimRequest("r", dataset="birds:one"))
    assert "that run is lost" in owners.get("/projects/birds/datasets/birds:one/delete").content.decode()


def test_a_project_is_deleted_by_a_manager_who_types_its_slug(owner: User, owners: Client, project: Project) -> None:
    for name in ("One", "Two"):
        catalogue.create_dataset(project, name=name)
    claims.claim(owner, ClaimRequest("r", dataset="birds:one"))
    path = "/projects/birds/delete"
    assert f'href="{path}"' in owners.get(PROJECT).content.decode()
    page = owners.get(path).content.decode()
    assert "With it go 2 datasets with all statuses" in page
    assert "The files stay in the storage, at birds/." in page
    assert "1 dataset is being processed now" in page
    for typed in ("", "Birds", "birds:one"):
        assert "so nothing is deleted" in owners.post(path, {"typed": typed}).content.decode()
    assert Dataset.objects.count() == 2

    editor = member(project, "editor")
    assert path not in editor.get(PROJECT).content.decode()
    assert editor.post(path, {"typed": "birds"}).status_code == 403

    done = owners.post(path, {"typed": " birds "}, follow=True)
    assert (done.redirect_chain, "The project Birds is deleted." in done.content.decode()) == ([("/", 302)], True)
    assert not Item.objects.exists()
    assert Change.objects.filter(act="delete", target="birds").exists()
