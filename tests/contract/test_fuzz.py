"""Whatever the OpenAPI document allows, and much that it does not: no call is a server error or answers otherwise."""

from __future__ import annotations

import datetime as dt
import os
from pathlib import Path
from typing import Any

import hypothesis
import pytest
import schemathesis
from django.contrib.auth.models import User
from django.core.wsgi import get_wsgi_application
from django.db import transaction
from drf_spectacular.generators import SchemaGenerator
from hypothesis import HealthCheck, Phase
from rest_framework.authtoken.models import Token
from schemathesis import checks as known
from schemathesis.core.failures import FailureGroup
from schemathesis.generation import GenerationMode
from schemathesis.specs.openapi import checks

from server.models import Attribute
from server.services import catalogue
from tests.support.calls import claim, signed_in
from tests.support.depth import SEED, sample, whole

os.environ.setdefault("CRUNCH_SECRET_KEY", "only-for-tests")

EXAMPLES = 100 if whole() else 5
"""Of each operation."""

NOW = dt.datetime(2022, 3, 1, tzinfo=dt.UTC)
ATTRIBUTES = 6
"""Of the attributes' operations, which are alike for all kinds, so many are tested in `make test`."""

CHECKS = [
    known.not_a_server_error,
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_schema_conformance,
    checks.response_headers_conformance,
]
THERE = {
    "parent": ["birds", "birds:one"],
    "item": ["birds", "birds:one"],
    "project": ["birds"],
    "id": [1, "1"],
    "dataset": [2, "2", "birds:one"],
    "claim": [1],
    "fence": [1],
    "path": ["raw.txt"],
    "Range": ["bytes=2-5", "bytes=10-"],
}
"""What the fuzzer finds there, by the names that parameters and fields have."""

SLUGS = {"projects": "birds", "datasets": "birds:one", "items": "birds:one:nest"}
"""The same for the slug in a path, by what the path is about."""


def pointed(node: Any, there: dict[str, list[Any]], name: str = "") -> Any:
    """The document with what is there as the values that go, as hardly a random one would: odd ones are tried too."""
    if isinstance(node, list):
        return [pointed(entry, there) for entry in node]
    if not isinstance(node, dict):
        return node
    if name in there and node.get("type") in ("string", "integer"):
        kind = {"string": str, "integer": int}[node["type"]]
        return {"type": node["type"], "enum": [value for value in there[name] if isinstance(value, kind)]}
    if "in" in node and "schema" in node:
        return {**node, "schema": pointed(node["schema"], there, node["name"])}
    return {key: pointed(value, there, key) for key, value in node.items()}


def served() -> dict[str, Any]:
    document: dict[str, Any] = SchemaGenerator().get_schema(request=None, public=True)
    return document


def operations(document: dict[str, Any]) -> dict[str, Any]:
    """The document's operations by method and path."""
    schemas = document["components"]["schemas"]
    bodies = {name: pointed(schema, THERE) for name, schema in schemas.items() if name.endswith("Request")}
    components = {**document["components"], "schemas": {**schemas, **bodies}}
    paths = {
        path: pointed(calls, {**THERE, "slug": [SLUGS.get(path.split("/")[2])]})
        for path, calls in document["paths"].items()
    }
    schema = schemathesis.openapi.from_dict({**document, "paths": paths, "components": components})
    schema.app = get_wsgi_application()
    return {found.ok().label: found.ok() for found in schema.get_all_operations()}


OPERATIONS = operations(served())
OF_ATTRIBUTES = [label for label in OPERATIONS if "/attributes/" in label]
TESTED = [label for label in OPERATIONS if label not in OF_ATTRIBUTES] + sample(OF_ATTRIBUTES, ATTRIBUTES)


@pytest.fixture
def token(db: None, label: str, settings: Any, tmp_path: Path) -> str:
    """That of a user of a site that has one of each thing that this operation is about."""
    alice = User.objects.create_user("alice")
    api = signed_in(alice)
    project = catalogue.create_project(alice, name="Birds")
    dataset = catalogue.create_dataset(project, name="One")
    catalogue.create_item(dataset, name="Nest")
    default = {"BACKEND": "django.core.files.storage.FileSystemStorage", "OPTIONS": {"location": str(tmp_path)}}
    settings.STORAGES = {**settings.STORAGES, "default": default}
    file = tmp_path / dataset.base_file_path / "raw.txt"
    file.parent.mkdir(parents=True)
    file.write_bytes(b"0123456789")
    kind = label.split("/")[3] if label in OF_ATTRIBUTES else "int"
    values = {"text": "https://example.org", "number": 1, "integer": 1, "boolean": True, "latitude": 1, "longitude": 2}
    Attribute.objects.create(item=dataset, kind=kind, key="n", date=NOW.date(), moment=NOW, **values)
    assert claim(api, project="birds").json()["claim"] == 1
    return f"Token {Token.objects.get(user=alice).key}"


@pytest.mark.parametrize("label", TESTED)
def test_no_call_is_a_server_error_or_answers_otherwise_than_the_document_says(token: str, label: str) -> None:
    fuzz(OPERATIONS[label], token)


@pytest.mark.parametrize("label", ["GET /api/datasets/{slug}/"])
def test_an_answer_that_is_not_in_the_document_is_noticed(token: str, label: str) -> None:
    """The fuzzer itself: it gets to what is there, and compares."""
    document = served()
    document["components"]["schemas"]["Dataset"]["properties"]["priority"] = {"type": "string"}
    with pytest.raises(FailureGroup) as caught:
        fuzz(operations(document)[label], token)
    assert 'is not of type "string"' in str(caught.value.exceptions[0])


def fuzz(operation: Any, token: str) -> None:
    @hypothesis.seed(SEED)
    @hypothesis.settings(
        max_examples=EXAMPLES,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.explicit, Phase.generate] if not whole() else tuple(Phase),
    )
    @hypothesis.given(case=operation.as_strategy() | operation.as_strategy(GenerationMode.NEGATIVE))
    def call(case: schemathesis.Case) -> None:
        with transaction.atomic():
            case.call_and_validate(headers={"Authorization": token}, checks=CHECKS)
            transaction.set_rollback(True)

    call()
