"""ETag and If-Match: an edit of what somebody else changed meanwhile is refused."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connections
from django.db.utils import ConnectionHandler
from rest_framework.test import APIClient

from server.models import Attribute, Dataset
from server.services import catalogue
from server.site import environment
from tests.support.calls import claim, signed_in

NODES = ["/api/projects/birds/", "/api/datasets/birds:one/", "/api/items/birds:one:nest/"]


PLACE = {"latitude": "1.000000000", "longitude": "2.000000000"}


@pytest.fixture
def nest(dataset: Dataset) -> None:
    catalogue.create_item(dataset, name="Nest")


@pytest.mark.parametrize("address", NODES)
def test_an_edit_goes_through_once_for_each_version_that_was_read(api: APIClient, nest: None, address: str) -> None:
    read = api.get(address)["ETag"]
    assert api.get(address)["ETag"] == read
    changed = api.patch(address, {"description": "mine"}, headers={"If-Match": read})
    assert changed.status_code == 200
    assert changed["ETag"] == api.get(address)["ETag"] != read
    for call in (
        lambda: api.patch(address, {"description": "theirs"}, headers={"If-Match": read}),
        lambda: api.put(address, {"name": "theirs", "parent": "birds"}, headers={"If-Match": f"W/{changed['ETag']}"}),
        lambda: api.delete(address, headers={"If-Match": read}),
    ):
        answer = call()
        assert (answer.status_code, answer.json()["code"]) == (412, "changed")
        assert "Read it again" in answer.json()["detail"]
    assert api.get(address).json()["description"] == "mine"
    assert api.patch(address, {"description": "any"}, headers={"If-Match": "*"}).status_code == 200
    newest = api.get(address)["ETag"]
    assert api.delete(address, headers={"If-Match": f'"x", {newest}'}).status_code == 204
    assert api.delete(address, headers={"If-Match": "*"}).status_code == 404


@pytest.mark.parametrize(("kind", "old", "new"), [("int", {"value": 1}, 2), ("lat-long", PLACE, "3.000000000")])
def test_an_attribute_is_edited_once_for_each_version_that_was_read(
    api: APIClient, dataset: Dataset, kind: str, old: dict[str, Any], new: Any
) -> None:
    told = {"item": dataset.slug, "key": "k", **old}
    address = f"/api/attributes/{kind}/{api.post(f'/api/attributes/{kind}/', told).json()['id']}/"
    read = api.get(address)["ETag"]
    part = next(iter(old))
    changed = api.patch(address, {part: new}, headers={"If-Match": read})
    assert (changed.status_code, changed.json()[part]) == (200, new)
    assert changed["ETag"] == api.get(address)["ETag"] != read
    for call in (
        lambda: api.patch(address, {"key": "theirs"}, headers={"If-Match": read}),
        lambda: api.put(address, told, headers={"If-Match": read}),
        lambda: api.delete(address, headers={"If-Match": read}),
    ):
        answer = call()
        assert (answer.status_code, answer.json()["code"]) == (412, "changed")
        assert answer.json()["detail"].startswith("birds:one k has changed")
    assert api.get(address).json()[part] == new
    assert api.delete(address, headers={"If-Match": changed["ETag"]}).status_code == 204
    assert api.delete(address, headers={"If-Match": "*"}).status_code == 404


def test_whatever_is_told_of_a_dataset_is_a_part_of_its_version(api: APIClient, dataset: Dataset) -> None:
    seen = {api.get("/api/datasets/birds:one/")["ETag"]}
    Attribute.objects.create(item=dataset, kind="int", key="n", integer=1)
    seen.add(api.get("/api/datasets/birds:one/")["ETag"])
    catalogue.create_item(dataset, name="nest")
    seen.add(api.get("/api/datasets/birds:one/")["ETag"])
    claim(api, dataset="birds:one")
    seen.add(api.get("/api/datasets/birds:one/")["ETag"])
    assert len(seen) == 4


@pytest.mark.slow
def test_of_many_edits_of_one_version_at_once_one_goes_through(database: None) -> None:
    catalogue.create_dataset(catalogue.create_project(name="Birds"), name="One")
    alice = User.objects.get(username="alice")
    read = signed_in(alice).get("/api/datasets/birds:one/")["ETag"]
    codes: list[int] = []
    start = threading.Barrier(6)

    def edit(number: int) -> None:
        # A thread has connections of its own.
        connections["default"] = ConnectionHandler({"default": environment.database()})["default"]
        api = signed_in(alice)
        start.wait()
        values = {"priority": number, "base_file_path": f"birds/p{number}"}
        try:
            codes.append(api.patch("/api/datasets/birds:one/", values, headers={"If-Match": read}).status_code)
        finally:
            connections["default"].close()

    threads = [threading.Thread(target=edit, args=(number,)) for number in range(1, 7)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(codes) == [200] + [412] * 5
    made = Dataset.objects.get(slug="birds:one")
    assert made.base_file_path == f"birds/p{made.priority}"
