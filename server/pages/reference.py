"""The OpenAPI document for people: every call with its parameters, what it takes and what it answers."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from django.views.generic import TemplateView
from drf_spectacular.generators import SchemaGenerator

from server.permissions import Act

METHODS = ("get", "post", "put", "patch", "delete")


@dataclass(frozen=True)
class Field:
    name: str
    kind: str
    about: str
    required: bool


@dataclass(frozen=True)
class Call:
    """One operation; `answers` are the status codes with what is in the body."""

    method: str
    path: str
    about: str
    parameters: list[Field]
    body: list[Field]
    answers: list[tuple[str, str]]

    @property
    def anchor(self) -> str:
        return f"{self.method}-{self.path.strip('/').replace('/', '-').replace('{', '').replace('}', '')}".lower()


class Reference(TemplateView):
    template_name = "server/reference.html"
    acts: ClassVar = {"get": Act.VISIT}

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        return super().get_context_data(groups=_groups(), **kwargs)


@functools.cache
def _groups() -> list[tuple[str, list[Call]]]:
    """The calls by what they are about, the first word of their path; the document is the same for everyone."""
    found: dict[str, list[Call]] = {}
    generator: Any = SchemaGenerator
    document: dict[str, Any] = generator().get_schema(request=None, public=True)
    for call in calls(document):
        found.setdefault(call.path.removeprefix("/api/").split("/")[0], []).append(call)
    return list(found.items())


def calls(document: Mapping[str, Any]) -> Iterator[Call]:
    """All operations of an OpenAPI document, in its order."""
    schemas = document["components"]["schemas"]
    for path, operations in document["paths"].items():
        for method in METHODS:
            if (found := operations.get(method)) is None:
                continue
            yield Call(
                method.upper(),
                path,
                found.get("description", ""),
                [
                    Field(each["name"], _kind(each["schema"]), each.get("description", ""), each.get("required", False))
                    for each in found.get("parameters", [])
                ],
                list(_fields(found.get("requestBody", {}), schemas)),
                [(code, _answer(answer)) for code, answer in found["responses"].items()],
            )


def _fields(body: Mapping[str, Any], schemas: Mapping[str, Any]) -> Iterator[Field]:
    schema = body.get("content", {}).get("application/json", {}).get("schema", {})
    schema = schemas[_name(schema)] if "$ref" in schema else schema
    for name, field in schema.get("properties", {}).items():
        if not field.get("readOnly"):
            yield Field(name, _kind(field), field.get("description", ""), name in schema.get("required", []))


def _answer(answer: Mapping[str, Any]) -> str:
    schema = answer.get("content", {}).get("application/json", {}).get("schema", {})
    return answer.get("description", "") or (_kind(schema) if schema else "")


def _kind(schema: Mapping[str, Any]) -> str:
    """A type in a word or two."""
    if "$ref" in schema:
        return _name(schema)
    if "enum" in schema:
        return ", ".join(str(word) for word in schema["enum"])
    for several in ("oneOf", "allOf"):
        if several in schema:
            return " or ".join(_kind(each) for each in schema[several])
    if schema.get("type") == "array":
        return f"list of {_kind(schema['items'])}"
    return str(schema.get("format") or schema.get("type") or "any")


def _name(schema: Mapping[str, Any]) -> str:
    return str(schema["$ref"]).rpartition("/")[2]
