"""Many datasets in one call: all or none, what is wrong by row, and the same rules as for one."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test.utils import CaptureQueriesContext
from rest_framework.test import APIClient

from server.api import bulk_create
from server.models import Attribute, Change, Dataset, Item, Project, StateCount
from server.services import catalogue, counts
from tests.support.calls import claim, post_json, signed_in
from tests.support.depth import whole

MANY = bulk_create.MOST if whole() else 1000
ADDRESS = "/api/projects/birds/datasets/bulk/"


def send(api: APIClient, *datasets: Any, **words: Any) -> Any:
    return post_json(api, ADDRESS, {"datasets": list(datasets), **words})


def errors(answer: Any) -> dict[int, dict[str, list[str]]]:
    assert answer.status_code == 400, answer.content
    return {row["row"]: row["errors"] for row in answer.json()["rows"]}


ROBIN = {
    "name": "Robin 1",
    "description": "red",
    "details": "# R\r\n",
    "locked": True,
    "priority": 3,
    "base_file_path": "birds/red/robin",
    "attributes": [
        {"key": "site", "value": "north"},
        {"key": "mass", "value": 2.5},
        {"key": "eggs", "value": 4},
        {"key": "ringed", "value": True},
        {"key": "place", "latitude": "-37.814000000", "longitude": 144.96},
        {"kind": "date", "key": "seen", "value": "2022-03-01"},
        {"kind": "filesize", "key": "size", "value": 2**40},
    ],
}


@pytest.mark.slow
def test_datasets_are_as_those_made_one_by_one(database: None) -> None:
    catalogue.create_project(name="Birds")
    api = signed_in(User.objects.get(username="alice"))
    answer = send(api, ROBIN, {"name": "Wren"})
    assert answer.status_code == 201
    assert [(row["row"], row["slug"], row["base_file_path"]) for row in answer.json()["created"]] == [
        (1, "birds:robin-1", "birds/red/robin"),
        (2, "birds:wren", "birds/wren"),
    ]
    robin = api.get("/api/datasets/birds:robin-1/").json()
    assert robin["id"] == answer.json()["created"][0]["id"]
    assert {name: robin[name] for name in ROBIN if name != "attributes"} == {
        name: value for name, value in ROBIN.items() if name != "attributes"
    }
    kinds = {row.key: row.kind for row in Attribute.objects.all()}
    assert kinds == {
        **{"site": "char", "mass": "float", "eggs": "int", "ringed": "bool", "place": "lat-long"},
        **{"seen": "date", "size": "filesize"},
    }
    assert {attribute["key"]: attribute.get("value") for attribute in robin["attributes"]}["size"] == 2**40
    # One made alone differs in nothing but what is its own.
    catalogue.create_dataset(Project.objects.get(), name="Tit")
    own = ("item_ptr_id", "id", "name", "slug", "base_file_path", "created", "modified", "key", "updated")
    wren, tit = (Dataset.objects.filter(slug=slug).values().get() for slug in ("birds:wren", "birds:tit"))
    assert {name: wren[name] for name in wren if name not in own} == {
        name: tit[name] for name in tit if name not in own
    }
    assert claim(api, project="birds").json()["dataset"]["slug"] == "birds:wren"


@pytest.mark.slow
def test_the_datasets_of_a_large_call_are_all_counted(database: None) -> None:
    project = catalogue.create_project(name="Birds")
    rows = [
        {
            "name": f"Robin {number}",
            "attributes": [{"key": "mass", "value": number / 7}, {"key": "place", "latitude": 1, "longitude": 2}],
        }
        for number in range(MANY)
    ]
    api = signed_in(User.objects.get(username="alice"))
    answer = send(api, *rows)
    assert (answer.status_code, len(answer.json()["created"])) == (201, MANY)
    assert counts.by_state([project.pk])[project.pk] == {"unprocessed": MANY}
    assert Dataset.objects.count() == MANY
    assert Attribute.objects.count() == 2 * MANY
    assert StateCount.objects.count() < 100
    again = send(api, *rows[:50], {"name": "Wren"}, skip_existing=True)
    assert (len(again.json()["created"]), len(again.json()["existing"])) == (1, 50)
    assert errors(send(api, *rows[:2]))[2] == {"name": ["There is 'birds:robin-1' already. Choose another name."]}
    too_many = send(api, *({} for _ in range(bulk_create.MOST + 1)))
    assert too_many.status_code == 400
    assert "At most 10000 datasets" in too_many.json()["datasets"][0]


def test_the_audit_trail_says_how_many_were_made(api: APIClient, project: Project) -> None:
    send(api, {"name": "a"}, {"name": "b"})
    send(api, {"name": "a"}, skip_existing=True)
    send(api, {"name": "c"}, dry_run=True)
    noted = Change.objects.get()
    assert (noted.act, noted.target, noted.after) == ("create datasets", "birds", {"count": 2})


def test_what_is_wrong_is_told_by_row_and_nothing_is_made(api: APIClient, dataset: Dataset) -> None:
    catalogue.create_item(Project.objects.get(), name="Taken")
    catalogue.create_project(name="Other")
    wrong = errors(
        send(
            api,
            {"name": "good"},
            {},
            {"name": "x" * 1024},
            {"name": "a", "attributes": [{"key": "n", "kind": "int", "value": "many"}, {"key": ""}, 1]},
            {"name": "b", "attributes": {"n": 1}},
            {"name": "c", "attributes": [{"key": "u", "kind": "url", "value": "javascript:alert(1)"}]},
            {"name": "d", "attributes": [{"key": "p", "latitude": 91, "longitude": 0}, {"key": "k", "kind": "odd"}]},
            "e",
            {"name": "f", "priority": "high"},
            {"name": "One"},
        )
    )
    assert list(wrong) == [2, 3, 4, 5, 6, 7, 8, 9, 10]
    assert wrong[2] == {"name": ["This field is required."]}
    assert [told.split(":")[0] for told in wrong[4]["attributes"]] == ["n", "number 2", "number 3"]
    assert "A kind is one of char, float" in wrong[7]["attributes"][1]
    wrong = errors(
        send(
            api,
            {"name": "One"},
            {"name": "taken"},
            {"name": "Twice"},
            {"name": "twice"},
            {"name": "!!"},
            {"name": "away", "base_file_path": "other/x"},
            {"name": "out", "base_file_path": "birds/../x"},
            {"name": "inside", "base_file_path": "birds/one/x"},
            {"name": "above", "base_file_path": "birds/deep"},
            {"name": "below", "base_file_path": "birds/deep/er"},
        )
    )
    where = {row: " ".join(told) for row, told in wrong.items()}
    assert where == dict.fromkeys((1, 2, 4, 5), "name") | dict.fromkeys((6, 7, 8, 10), "base_file_path")
    assert "Row 3" in wrong[4]["name"][0]
    assert "birds:one" in wrong[8]["base_file_path"][0]
    assert "row 9" in wrong[10]["base_file_path"][0]
    assert Dataset.objects.count() == 1
    assert not Attribute.objects.exists()


def test_a_misspelt_word_of_the_call_of_a_row_or_of_an_attribute_is_named(api: APIClient, project: Project) -> None:
    refused = send(api, {"name": "a"}, dryrun=True)
    assert (refused.status_code, list(refused.json())) == (400, ["dryrun"])
    wrong = errors(
        send(
            api,
            {"name": "a", "lockd": True},
            {"name": "b", "attribute": []},
            {"name": "c", "attributes": [{"key": "seen", "knd": "date", "value": "2022-03-01"}]},
            {"name": "d", "attributes": [{"key": "p", "latitude": 1, "longitude": 2, "height": 3}]},
        )
    )
    assert [list(told) for told in wrong.values()] == [["lockd"], ["attribute"], ["attributes"], ["attributes"]]
    assert wrong[3]["attributes"] == ["seen: knd: It is not known here; known are kind, key, value."]
    assert wrong[4]["attributes"] == ["p: height: It is not known here; known are kind, key, latitude, longitude."]
    assert not Dataset.objects.exists()


@pytest.mark.slow
def test_no_folder_is_shared_with_what_is_there_or_in_the_call(database: None) -> None:
    project = catalogue.create_project(name="Birds")
    catalogue.create_dataset(project, name="Old", base_file_path="birds/robin/old")
    catalogue.create_dataset(project, name="Flat", base_file_path="birds/tit")
    api = signed_in(User.objects.get(username="alice"))
    inside = [{"name": "x", "base_file_path": "birds/tit/x"}, {"name": "y", "base_file_path": "birds/robin"}]
    assert list(errors(send(api, *inside))) == [1, 2]
    made = send(
        api, {"name": "robin"}, {"name": "tit"}, {"name": "wren"}, {"name": "z", "base_file_path": "birds/wren/z"}
    )
    assert [row["base_file_path"] for row in sorted(made.json()["created"], key=lambda row: row["row"])] == [
        *("birds/robin-2", "birds/tit-2", "birds/wren-2", "birds/wren/z")
    ]


def test_a_dry_run_tells_the_same_and_makes_nothing(api: APIClient, dataset: Dataset) -> None:
    answer = send(api, {"name": "One"}, {"name": "Two"}, dry_run=True, skip_existing=True)
    assert answer.status_code == 200
    assert answer.json()["existing"] == ["birds:one"]
    assert [(row["slug"], row["id"]) for row in answer.json()["created"]] == [("birds:two", None)]
    assert list(errors(send(api, {"name": "One"}, dry_run=True))) == [1]
    assert Item.objects.count() == 2


def test_a_call_of_many_rows_takes_few_queries(api: APIClient, project: Project) -> None:
    with CaptureQueriesContext(connection) as few:
        send(api, *({"name": f"a{number}"} for number in range(5)))
    with CaptureQueriesContext(connection) as more:
        # As many as go into one statement of SQLite.
        send(api, *({"name": f"b{number}"} for number in range(40)))
    assert len(few) == len(more)


def test_a_call_may_be_longer_than_others_but_not_endless(
    api: APIClient, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert send(api, {"name": "a", "details": "x" * 6_000_000}).status_code == 201
    monkeypatch.setattr(bulk_create.LongJSONParser, "limit", 1000)
    answer = send(api, {"name": "b", "details": "x" * 1000})
    assert (answer.status_code, answer.json()["code"]) == (413, "too_large")
    assert "1000 bytes" in answer.json()["detail"]


def test_odd_bodies_and_projects_are_refused(api: APIClient, project: Project) -> None:
    for body in ({}, [], {"datasets": []}, {"datasets": {}}, {"datasets": None}):
        assert post_json(api, ADDRESS, body).status_code == 400
    for slug in ("nope", "a%00b"):
        assert post_json(api, f"/api/projects/{slug}/datasets/bulk/", {"datasets": [{"name": "a"}]}).status_code == 404
