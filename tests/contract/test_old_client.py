"""A script of plain form-encoded calls, in the shapes of django-crunch 0.1.x, against a real server."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest

from tests.support.servers import crunch_server

pytestmark = pytest.mark.slow

ATTRIBUTES = {
    "char": {"value": "robin"},
    "float": {"value": 1.5},
    "int": {"value": -3},
    "filesize": {"value": 2**40},
    "bool": {"value": True},
    "url": {"value": "https://example.org/robin"},
    # As the published client writes a datetime: str(), which the form encodes.
    "datetime": {"value": "2022-03-01 10:00:00"},
    "date": {"value": "2022-03-01"},
    "lat-long": {"latitude": -37.814, "longitude": "144.96332"},
}
DIAGNOSTICS = {
    "agent_user": "robin",
    "version": "0.1.12",
    "revision": "",
    "system": "Linux",
    "system_release": "6.1",
    "system_version": "#1 SMP " + "x" * 300,
    "machine": "x86_64",
    "hostname": "node1",
    "ip_address": "127.0.1.1",
    "mac_address": "00:11:22:33:44:55",
    "memory_total": 2**34,
    "memory_free": 2**33,
    "disk_total": 2**40,
    "disk_free": 2**39,
}


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    with crunch_server(tmp_path_factory.mktemp("server"), users=("alice",)) as server, server.client() as client:
        yield client


def post(client: httpx.Client, path: str, **form: object) -> dict:
    answer = client.post(path, data={name: str(value) for name, value in form.items()})
    assert answer.status_code == 201, answer.text
    return answer.json()


def test_a_published_client_adds_everything_and_carries_a_dataset_through(client: httpx.Client) -> None:
    project = post(client, "/api/projects/", name="Old Birds", description="all of them", details="# Birds\n")
    assert {"id", "name", "slug", "description", "details", "workflow"} <= set(project)
    assert project["slug"] == "old-birds"
    dataset = post(client, "/api/datasets/", parent="old-birds", name="Robin 1", description="", details="")
    slug = "old-birds:robin-1"
    assert (dataset["slug"], dataset["parent"], dataset["base_file_path"]) == (slug, "old-birds", "old-birds/robin-1")
    item = post(client, "/api/items/", parent=slug, name="Nest", description="", details="")
    assert item["slug"] == f"{slug}:nest"
    for kind, value in ATTRIBUTES.items():
        for owner in (slug, item["slug"]):
            made = post(client, f"/api/attributes/{kind}/", item=owner, key=f"a {kind}", **value)
            assert {"item", "key", *value} <= set(made)

    found = client.get(f"/api/datasets/{slug}/").json()
    assert {attribute["key"] for attribute in found["attributes"]} == {f"a {kind}" for kind in ATTRIBUTES}
    by_key = {attribute["key"]: attribute for attribute in found["attributes"]}
    assert by_key["a bool"]["value"] is True
    assert by_key["a filesize"]["value"] == 2**40
    assert float(by_key["a lat-long"]["latitude"]) == -37.814
    assert [(nest["name"], len(nest["attributes"])) for nest in found["items"]] == [("Nest", len(ATTRIBUTES))]

    reference = {"project": "old-birds", "dataset": slug}
    assert client.get("/api/next/").json() == reference
    assert client.get("/api/projects/old-birds/next/").json() == reference
    for stage in (1, 2, 3):
        for state in (1, 2):
            status = post(
                client, "/api/statuses/", dataset=found["id"], stage=stage, state=state, note="", **DIAGNOSTICS
            )
            assert status["effective"]
            assert (status["hostname"], status["memory_total"]) == ("node1", 2**34)
            assert client.get("/api/next/").json() == {"project": "", "dataset": ""}
    assert client.get(f"/api/datasets/{slug}/").json()["state"] == "completed"
    history = client.get("/api/statuses/", params={"dataset": found["id"]}).json()
    assert [(row["stage"], row["state"]) for row in history["results"]] == [(s, t) for s in (1, 2, 3) for t in (1, 2)]
    assert set(history) == {"count", "next", "previous", "results"}


def test_an_error_is_told_as_published_clients_know_it(client: httpx.Client) -> None:
    for path in ("/api/datasets/nope/", "/api/projects/nope/", "/api/projects/nope/next/"):
        assert list(client.get(path).json()) == ["detail"]
    taken = {"name": "Twice", "description": "", "details": ""}
    post(client, "/api/projects/", **taken)
    again = client.post("/api/projects/", data=taken)
    assert again.status_code == 400
    assert again.json() == {"name": ["There is 'twice' already. Choose another name."]}


def test_put_patch_and_delete(client: httpx.Client) -> None:
    post(client, "/api/projects/", name="Change Me")
    put = client.put("/api/projects/change-me/", data={"name": "Changed", "workflow": "echo 1\r\n"})
    assert (put.json()["name"], put.json()["slug"], put.json()["workflow"]) == ("Changed", "change-me", "echo 1\r\n")
    assert client.patch("/api/projects/change-me/", data={"details": "d"}).json()["workflow"] == "echo 1\r\n"
    assert client.delete("/api/projects/change-me/").status_code == 204
    assert client.get("/api/projects/change-me/").status_code == 404
