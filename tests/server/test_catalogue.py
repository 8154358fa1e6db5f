"""Projects, datasets, items and attributes: their addresses, their bytes, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest
from rest_framework.test import APIClient

from crunch_tasks.contract import ATTRIBUTE_KINDS
from server import kinds
from server.api.nodes import NodeSerializer
from server.models import Attribute, Dataset, Item, Project
from server.services import catalogue
from tests.support.calls import claim, expire, post_json

GOOD = {
    "char": ["x", " padded ", "", "日本"],
    "float": [1.5, -0.0, 1e300],
    "int": [-(2**63), 2**63 - 1],
    "filesize": [0, 2**62],
    "bool": [True, False],
    "date": ["2020-02-29"],
    "datetime": ["2022-03-01T10:00:00Z"],
    "url": ["https://example.org/a?b=c", "ftp://example.org/x"],
    "lat-long": [("-37.814000000", "144.963320000"), ("90.000000000", "-180.000000000")],
}
BAD = {
    "char": ["x" * 1024, "a\x00b"],
    "float": ["nan", "inf", "1e999", "x"],
    "int": [2**63, "1.5", "x"],
    "filesize": [-1, 2**63],
    "bool": ["maybe", None],
    "date": ["2020-02-30", "x"],
    "datetime": ["x", "2022-13-01T00:00:00Z"],
    "url": ["javascript:alert(1)", "data:text/html,x", "x", "https://"],
    "lat-long": [("90.1", "0"), ("0", "-180.1"), ("NaN", "0"), ("1e400", "0")],
}


def body(kind: str, value) -> dict:
    parts = kinds.KINDS[kind].columns
    return {"item": "birds:one", "key": "k", **dict(zip(parts, value if len(parts) > 1 else [value], strict=True))}


@pytest.mark.parametrize("kind", [kind.name for kind in ATTRIBUTE_KINDS])
def test_each_kind_keeps_its_values_and_refuses_others(api: APIClient, dataset: Dataset, kind: str) -> None:
    url = f"/api/attributes/{kind}/"
    for value in GOOD[kind]:
        sent = body(kind, value)
        made = post_json(api, url, sent)
        assert made.status_code == 201, made.content
        found = api.get(f"{url}{made.json()['id']}/").json()
        assert found == {"id": made.json()["id"], **sent}
        on_dataset = api.get("/api/datasets/birds:one/").json()["attributes"][-1]
        assert on_dataset == {"kind": kind, **{name: part for name, part in sent.items() if name != "item"}}
    count = Attribute.objects.count()
    for value in BAD[kind]:
        assert post_json(api, url, body(kind, value)).status_code == 400, value
    missing = {"item": "birds:one", "key": "k"}
    assert api.post(url, missing).status_code == 400
    assert api.patch(f"{url}{found['id']}/", {"key": "new"}).json()["key"] == "new"
    assert api.get(url).json()["count"] == count == Attribute.objects.count()
    assert api.delete(f"{url}{found['id']}/").status_code == 204


def test_every_kind_of_the_contract_has_its_columns() -> None:
    assert {kind.name: kind.fields for kind in ATTRIBUTE_KINDS} == {
        name: tuple(kind.columns) for name, kind in kinds.KINDS.items()
    }
    assert set(kinds.COLUMNS) <= {field.name for field in Attribute._meta.get_fields()}


@pytest.mark.parametrize(
    "text", ["a\r\nb\n", "\n\n x \t\n", "no newline", "日本\u2028\n", "https://example.org/Snakefile"]
)
def test_a_workflows_bytes_are_kept(api: APIClient, project: Project, text: str) -> None:
    for sent in (api.patch("/api/projects/birds/", {"workflow": text}, format="json"), api.get("/api/projects/birds/")):
        assert sent.json()["workflow"] == text
    api.patch("/api/projects/birds/", {"workflow": text, "details": text})
    project.refresh_from_db()
    assert (project.workflow, project.details) == (text, text)


def test_addresses_are_made_from_names_once(api: APIClient, project: Project) -> None:
    made = post_json(api, "/api/datasets/", {"parent": "birds", "name": "Été 1"}).json()
    assert (made["slug"], made["base_file_path"]) == ("birds:ete-1", "birds/ete-1")
    assert post_json(api, "/api/items/", {"parent": "birds:ete-1", "name": "日本"}).json()["slug"] == "birds:ete-1:日本"
    renamed = api.patch("/api/datasets/birds:ete-1/", {"name": "Winter"}).json()
    assert (renamed["slug"], renamed["name"]) == ("birds:ete-1", "Winter")
    taken = post_json(api, "/api/datasets/", {"parent": "birds", "name": "ete 1"})
    assert (taken.status_code, list(taken.json())) == (400, ["name"])
    assert post_json(api, "/api/datasets/", {"parent": "birds", "name": "!!!"}).status_code == 400
    assert post_json(api, "/api/datasets/", {"parent": "birds:ete-1", "name": "x"}).status_code == 400
    assert post_json(api, "/api/projects/", {"name": "x" * 1000}).json()["slug"] == "x" * 100


def test_a_tree_too_deep_for_an_address_is_refused(api: APIClient, dataset: Dataset) -> None:
    parent, answer = dataset.slug, None
    for _ in range(10):
        answer = post_json(api, "/api/items/", {"parent": parent, "name": "y" * 90})
        if answer.status_code != 201:
            break
        parent = answer.json()["slug"]
    assert (answer.status_code, list(answer.json())) == (400, ["parent"])


def test_nothing_moves(api: APIClient, dataset: Dataset) -> None:
    catalogue.create_project(name="Other")
    assert list(api.patch("/api/datasets/birds:one/", {"parent": "other"}).json()) == ["parent"]
    assert api.patch("/api/datasets/birds:one/", {"parent": "birds", "priority": 3}).json()["priority"] == 3


def test_items_are_nested_in_a_fixed_number_of_queries(
    api: APIClient, project: Project, django_assert_num_queries
) -> None:
    for number in range(3):
        dataset = catalogue.create_dataset(project, name=f"d{number}")
        for name in "ab":
            item = catalogue.create_item(dataset, name=name)
            Attribute.objects.create(item=catalogue.create_item(item, name="leaf"), kind="int", key="n", integer=7)
    with django_assert_num_queries(9):
        found = api.get("/api/datasets/").json()["results"]
    leaf = found[2]["items"][1]["items"][0]
    assert (leaf["slug"], leaf["attributes"]) == ("birds:d2:b:leaf", [{"kind": "int", "key": "n", "value": 7}])
    assert [item["slug"] for item in api.get("/api/items/").json()["results"]][:2] == ["birds", "birds:d0"]


def test_lists_have_pages_of_20(api: APIClient, project: Project) -> None:
    for number in range(21):
        catalogue.create_dataset(project, name=f"d{number}")
    first = api.get("/api/datasets/").json()
    assert (first["count"], first["previous"], len(first["results"])) == (21, None, 20)
    assert len(api.get(first["next"]).json()["results"]) == 1


@pytest.mark.parametrize(
    "path",
    [
        "other/d",
        "birds",
        "birds/",
        "/birds/d",
        "birds/../other/d",
        "birds/./d",
        "birds//d",
        "birds\\d",
        "birds/a\nb",
        "birds/" + "x" * 300,
        "birds/x/" * 200,
        "birdsong/d",
        "birds/one",
        "birds/one/below",
        "birds/deep",
    ],
)
def test_a_base_path_of_another_or_outside_is_refused(api: APIClient, dataset: Dataset, path: str) -> None:
    post_json(api, "/api/datasets/", {"parent": "birds", "name": "Deep", "base_file_path": "birds/deep/down"})
    post_json(api, "/api/datasets/", {"parent": "birds", "name": "Two"})
    made = post_json(api, "/api/datasets/", {"parent": "birds", "name": "New", "base_file_path": path})
    assert (made.status_code, list(made.json())) == (400, ["base_file_path"])
    assert api.patch("/api/datasets/birds:two/", {"base_file_path": path}, format="json").status_code == 400
    assert Dataset.objects.get(slug="birds:two").base_file_path == "birds/two"


def test_an_editor_may_set_a_base_path_but_not_while_it_is_used(api: APIClient, dataset: Dataset) -> None:
    patch = {"base_file_path": "birds/2023/One #1"}
    assert api.patch("/api/datasets/birds:one/", patch).json()["base_file_path"] == "birds/2023/One #1"
    made = post_json(api, "/api/datasets/", {"parent": "birds", "name": "2023"})
    assert made.json()["base_file_path"] == "birds/2023-2"
    claim(api, dataset="birds:one")
    assert api.patch("/api/datasets/birds:one/", {"base_file_path": "birds/other"}).status_code == 400
    # Its holder may come back and commit to the folder that it was told.
    expire(dataset.pk)
    assert api.patch("/api/datasets/birds:one/", {"base_file_path": "birds/other"}).status_code == 400
    api.post("/api/datasets/birds:one/reset/")
    assert api.patch("/api/datasets/birds:one/", {"base_file_path": "birds/other"}).status_code == 200


def test_an_edit_does_not_undo_what_another_set_meanwhile(
    api: APIClient, dataset: Dataset, meanwhile: dict[str, Any]
) -> None:
    others = {"locked": True, "priority": 7, "base_file_path": "birds/moved"}
    meanwhile.update(others)
    sent = {"description": "edited"}
    assert api.patch("/api/datasets/birds:one/", sent, format="json").status_code == 200
    dataset.refresh_from_db()
    assert {name: getattr(dataset, name) for name in others} == others
    assert dataset.description == "edited"
    assert dataset.modified > dataset.created


def test_an_edit_of_what_was_deleted_meanwhile_is_404(
    api: APIClient, dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    item = catalogue.create_item(dataset, name="Nest")
    update = NodeSerializer.update

    def delete_and_update(self: Any, instance: Item, data: dict[str, Any]) -> Any:
        Item.objects.filter(pk=instance.pk).delete()
        return update(self, instance, data)

    monkeypatch.setattr(NodeSerializer, "update", delete_and_update)
    assert api.patch(f"/api/items/{item.slug}/", {"description": "x"}, format="json").status_code == 404


def test_what_services_decide_cannot_be_written(api: APIClient, dataset: Dataset) -> None:
    sent = {"state": "completed", "attempt": 9, "manifest_sha256": "x", "manifest_fence": 9, "slug": "x"}
    assert api.patch("/api/datasets/birds:one/", {**sent, "locked": True}, format="json").status_code == 200
    assert list(api.patch("/api/datasets/birds:one/", {"fence": 9}, format="json").json()) == ["fence"]
    dataset.refresh_from_db()
    assert (dataset.state, dataset.attempt, dataset.manifest_fence, dataset.fence) == ("unprocessed", 0, 0, 0)
    assert (dataset.slug, dataset.locked) == ("birds:one", True)
    form = {"parent": "birds", "name": "One", "description": "a form does not let go what it leaves out"}
    assert api.put("/api/datasets/birds:one/", form).json()["locked"] is True


def test_a_project_is_deleted_with_all_that_is_in_it(api: APIClient, dataset: Dataset) -> None:
    claim(api)
    assert api.delete("/api/projects/birds/").status_code == 204
    assert api.get("/api/items/").json()["count"] == 0


def test_limits_of_a_project_are_checked(api: APIClient, project: Project) -> None:
    for bad in (
        {"lease_seconds": 0},
        {"max_attempts": 0},
        {"workflow_type": "make"},
        {"visibility": "x"},
        {"workflow_timeout_s": -1},
    ):
        assert list(api.patch("/api/projects/birds/", bad).json()) == list(bad)
    assert api.patch("/api/projects/birds/", {"workflow_timeout_s": 60}).json()["workflow_timeout_s"] == 60


def test_what_is_not_there_is_named(api: APIClient) -> None:
    for kind, what in (("projects", "project"), ("datasets", "dataset"), ("items", "item")):
        answer = api.get(f"/api/{kind}/no:such/")
        assert (answer.status_code, answer.json()) == (404, {"detail": f"There is no {what} 'no:such'."})
