"""Whatever is sent, the answer is JSON with a sentence, and never a server error."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from rest_framework.authtoken.models import Token
from rest_framework.test import APIClient

from server.models import Dataset
from tests.support.calls import post_json
from tests.support.servers import Postgres, crunch_server

NASTY = [
    "\x00",
    "a\x00b",
    "\ud800",
    "x" * 70_000,
    "",
    None,
    [],
    {},
    [[]],
    True,
    -1,
    2**63,
    2**200,
    1e308,
    "NaN",
    "\u202e",
    "' OR 1=1 --",
]
POSTS = {
    "/api/projects/": {"name": "n", "workflow": "w", "details": "d", "lease_seconds": 5, "workflow_type": "script"},
    "/api/datasets/": {"parent": "birds", "name": "n", "base_file_path": "birds/q", "priority": 1, "locked": False},
    "/api/items/": {"parent": "birds", "name": "n", "description": "d"},
    "/api/attributes/char/": {"item": "birds", "key": "k", "value": "v"},
    "/api/attributes/float/": {"item": "birds", "key": "k", "value": 1.0},
    "/api/attributes/int/": {"item": "birds", "key": "k", "value": 1},
    "/api/attributes/datetime/": {"item": "birds", "key": "k", "value": "2020-01-01"},
    "/api/attributes/lat-long/": {"item": "birds", "key": "k", "latitude": 1, "longitude": 1},
    "/api/claims/": {"request_id": "r", "client": "c", "project": "nope", "dataset": "", "flow_run_url": ""},
    "/api/claims/1/heartbeat/": {"fence": 1, "progress": {"a": 1}},
    "/api/claims/1/release/": {"fence": 1, "reason": "r"},
    "/api/statuses/": {
        "dataset": 1,
        "stage": 1,
        "state": 1,
        "note": "n",
        "claim": 1,
        "fence": 1,
        "event_id": "e",
        "memory_free": 1,
    },
}
PATHS = [
    "/api/projects/a%00b/",
    "/api/projects/a%00b/next/",
    "/api/datasets/%ED%A0%80/",
    "/api/datasets/" + "x" * 5000 + "/",
    "/api/items/?page=0",
    "/api/items/?page=99999999999999999999",
    "/api/items/?page=%00",
    "/api/items/a%00b/",
    "/api/datasets/a%00b/",
    "/api/datasets/?page=%00",
    "/api/statuses/?page=%00",
    "/api/attributes/int/%00/",
    "/api/statuses/?dataset=%00",
    "/api/statuses/?dataset=x",
    "/api/statuses/?dataset=99999999999999999999",
    "/api/attributes/int/999999999999999999/",
    "/api/attributes/int/99999999999999999999999/",
    "/api/attributes/nope/",
    "/api/nope/",
]


def walk(get, post, values=NASTY) -> None:
    """Every field of every POST with every nasty value, and odd addresses."""
    for path, good in POSTS.items():
        for field in good:
            for value in values:
                answer = post(path, json.dumps({**good, field: value}))
                assert answer.status_code < 500, (path, field, value)
                if answer.status_code != 204:
                    json.loads(answer.content)
        for document in (
            "[" * 100_000,
            '{"a":' * 50_000,
            "[]",
            "1",
            '"x"',
            "null",
            "{",
            "",
            '{"fence": NaN}',
            "9" * 5000,
        ):
            answer = post(path, document)
            assert 400 <= answer.status_code < 500, (path, document[:20])
            json.loads(answer.content)
    for path in PATHS:
        answer = get(path)
        assert 400 <= answer.status_code < 500, path
        assert set(json.loads(answer.content)) <= {"detail", "dataset"}, path


def test_no_input_is_a_server_error(api: APIClient, dataset: Dataset) -> None:
    walk(api.get, lambda path, body: api.post(path, body, content_type="application/json"))


PAGES = [
    "/projects/a%00b/",
    "/projects/a%00b/datasets/c",
    "/projects/birds/datasets/b%00",
    "/projects/birds/datasets/b%00/files/x",
    "/projects/birds/datasets/birds:one/files/x%00",
    "/items/a%00b/",
    "/items/a%00b/?page=%00",
]


@pytest.mark.slow
def test_no_input_is_a_server_error_on_postgresql(tmp_path: Path, cluster: Postgres) -> None:
    with crunch_server(tmp_path, database_url=cluster.new_database()) as server, server.client() as client:
        client.post("/api/projects/", data={"name": "birds", "visibility": "public"})
        client.post("/api/datasets/", data={"parent": "birds", "name": "one"})
        for path in PAGES:
            assert client.get(path).status_code == 404, path
        for path in (
            "/?page=%00",
            "/projects/birds/?page=%00&state=%00",
            "/projects/birds/datasets/birds:one?page=%00",
        ):
            assert client.get(path).status_code == 200, path
        client.headers["Content-Type"] = "application/json"
        # What PostgreSQL sees otherwise than SQLite.
        values = ["\x00", "\ud800", "x" * 70_000, 2**63]
        walk(client.get, lambda path, body: client.post(path, content=body), values)


@pytest.mark.parametrize("content_type", ["application/json", "application/x-www-form-urlencoded"])
def test_a_huge_body_is_refused_with_its_limit(api: APIClient, content_type: str) -> None:
    for path in ("/api/projects/", "/api/statuses/", "/api/claims/"):
        answer = api.post(path, b'"' + b"x" * 6_000_000 + b'"', content_type=content_type)
        assert answer.status_code == 413
        assert answer.json()["code"] == "too_large"


def test_other_bodies_and_methods_are_refused(api: APIClient) -> None:
    assert api.post("/api/claims/", "<x/>", content_type="text/xml").status_code == 415
    assert api.post("/api/claims/", "x", content_type="multipart/form-data").status_code == 400
    assert api.post("/api/claims/", "{}", content_type="application/json; charset=nope").status_code == 400
    assert api.delete("/api/claims/").status_code == 405


ALL = [
    "/api/projects/",
    "/api/datasets/x/",
    "/api/items/",
    "/api/next/",
    "/api/statuses/",
    "/api/attributes/int/",
    "/api/nope/",
]


@pytest.mark.parametrize("path", ALL)
def test_a_stranger_and_a_revoked_token_get_one_sentence(stranger: APIClient, api: APIClient, path: str) -> None:
    Token.objects.all().delete()
    for client in (stranger, api):
        answer = client.get(path)
        assert answer.status_code == 401
        assert list(answer.json()) == ["detail"]
        assert answer["WWW-Authenticate"] == "Token"
    for target in ("/api/claims/", "/api/claims/1/cancel/", "/api/datasets/x/reset/"):
        assert set(post_json(api, target, {}).json()) == {"detail", "code"}


def test_unknown_slugs_say_so_in_detail_alone(api: APIClient, db: None) -> None:
    for path in ("/api/datasets/nope/", "/api/projects/nope/", "/api/projects/nope/next/", "/api/items/nope/"):
        answer = api.get(path)
        assert answer.status_code == 404
        assert list(answer.json()) == ["detail"]


def test_the_openapi_document_covers_the_wire(api: APIClient) -> None:
    from drf_spectacular.generators import SchemaGenerator
    from drf_spectacular.validation import validate_schema

    document = SchemaGenerator().get_schema(request=None, public=True)
    validate_schema(document)
    for path in POSTS:
        assert "post" in document["paths"][path.replace("/1/", "/{id}/")]
    claims = document["paths"]["/api/claims/"]["post"]["responses"]
    assert set(claims) == {"200", "201", "204", "400", "401", "403", "404", "409", "413", "415", "503", "507"}
    assert api.get("/api/schema/").status_code == 200


@pytest.mark.django_db
def test_an_address_with_a_line_end_in_it_is_a_problem_in_json() -> None:
    answer = APIClient().get("/api/attributes/int/%0A.1/")
    assert (answer.status_code, answer.headers["Content-Type"]) == (401, "application/json")
