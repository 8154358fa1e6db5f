"""Every call of our client, good and refused, against the OpenAPI document that the server serves."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from dataclasses import replace as but
from typing import Any

import httpx
import jsonschema
import pytest

from crunch_tasks.contract import ATTRIBUTE_KINDS, ClaimRequest, Stage, State, StatusEvent
from crunch_tasks.errors import CrunchError, Refused, Unauthorized
from crunch_tasks.link.client import CrunchClient

os.environ.setdefault("CRUNCH_SECRET_KEY", "only-for-tests")

pytestmark = pytest.mark.django_db


def strict(node: Any) -> Any:
    """An OpenAPI 3.0 schema as a JSON Schema in which nothing goes that is not written there."""
    if isinstance(node, list):
        return [strict(entry) for entry in node]
    if not isinstance(node, dict):
        return node
    made = {key: strict(value) for key, value in node.items()}
    if "properties" in made:
        made.setdefault("additionalProperties", False)
    return {"anyOf": [made, {"type": "null"}]} if made.pop("nullable", False) is True else made


@dataclass
class Document:
    """The served document, and what was compared with it."""

    body: dict[str, Any]
    seen: set[tuple[str, str, int]] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.components = {"components": strict(self.body["components"])}
        patterns = {path: re.sub(r"\\{\w+\\}", "[^/]+", re.escape(path)) for path in self.body["paths"]}
        # One that is written out comes before one with a name in it.
        self.patterns = dict(sorted(patterns.items(), key=lambda entry: "{" in entry[0]))

    def check(self, request: httpx.Request, response: httpx.Response) -> None:
        path = request.url.raw_path.decode().partition("?")[0]
        template = next((known for known, regex in self.patterns.items() if re.fullmatch(regex, path)), None)
        assert template, f"{path} is not in the document"
        operation = self.body["paths"][template].get(request.method.lower())
        assert operation, f"{request.method} {template} is not in the document"
        known = {parameter["name"] for parameter in operation.get("parameters", ()) if parameter["in"] == "query"}
        assert request.url.params.keys() <= known, f"{request.url}: the document has the parameters {known}"
        if "requestBody" in operation and response.status_code != 400:
            self.validate(json.loads(request.content), operation["requestBody"], f"request {template}")
        elif "requestBody" not in operation:
            assert request.content in (b"", b"{}"), f"{template} takes no body"
        where = f"{request.method} {template} {response.status_code}"
        answer = operation["responses"].get(str(response.status_code))
        assert answer, f"{where} is not in the document"
        if "content" in answer:
            self.validate(response.json(), answer, where)
        else:
            assert not response.content, where
        self.seen.add((request.method, template, response.status_code))

    def validate(self, value: Any, described: dict[str, Any], where: str) -> None:
        schema = self.components | strict(described["content"]["application/json"]["schema"])
        errors = list(jsonschema.Draft202012Validator(schema).iter_errors(value))
        assert not errors, f"{where}: {errors[0].json_path}: {errors[0].message}"


class Checked(httpx.BaseTransport):
    """Passes calls on to the server, and compares each with the document."""

    def __init__(self, document: Document) -> None:
        from django.core.wsgi import get_wsgi_application

        self.document = document
        self.server = httpx.WSGITransport(app=get_wsgi_application())

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        response = self.server.handle_request(request)
        response.read()
        self.document.check(request, response)
        return response


@pytest.fixture
def document() -> Document:
    from django.core.wsgi import get_wsgi_application

    token = token_of("reader")
    transport = httpx.WSGITransport(app=get_wsgi_application())
    with httpx.Client(transport=transport, base_url="http://testserver") as http:
        answer = http.get("/api/schema/?format=json", headers={"Authorization": f"Token {token}"})
    assert answer.status_code == 200
    return Document(answer.json())


def token_of(user: str) -> str:
    from django.contrib.auth.models import User
    from rest_framework.authtoken.models import Token

    return str(Token.objects.get_or_create(user=User.objects.get_or_create(username=user, is_staff=True)[0])[0].key)


@pytest.fixture
def connect(document: Document) -> Iterator[Callable[[str], CrunchClient]]:
    def client(token: str) -> CrunchClient:
        return CrunchClient("http://testserver", token, patience_s=0, transport=Checked(document))

    yield client


GOOD_VALUES = {
    "char": "x",
    "float": -1.5,
    "int": -3,
    "filesize": 10,
    "bool": True,
    "date": "2026-01-02",
    "datetime": "2026-01-02T03:04:05Z",
    "url": "https://example.org",
    "lat-long": -33.5,
}


def refused(call: Callable[..., Any], *words: Any, **values: Any) -> int:
    with pytest.raises(Refused) as caught:
        call(*words, **values)
    return caught.value.status


def test_every_call_of_the_client_is_as_the_document_says(
    document: Document, connect: Callable[[str], CrunchClient]
) -> None:
    alice, bob, stranger = connect(token_of("alice")), connect(token_of("bob")), connect("wrong")
    called = set()

    class Noted:
        def __getattr__(self, name: str) -> Any:
            called.add(name)
            return getattr(alice, name)

    client: Any = Noted()

    # The catalogue.
    everything = {"description": "d", "details": "# d\r\n", "workflow": " x\n", "workflow_type": "script"}
    limits = {"lease_seconds": 60, "max_attempts": 2, "workflow_timeout_s": 5, "visibility": "public"}
    client.create_project(name="P", **everything, **limits)
    assert refused(client.create_project, name="P") == 400
    client.create_dataset(parent="p", name="d", description="d", details="d", locked=False)
    assert refused(client.create_dataset, parent="none", name="d") == 400
    many = [{"name": "m", "attributes": [{"key": "k", "value": 1}]}]
    assert client.create_datasets("p", many, dry_run=True)["created"][0]["id"] is None
    client.create_datasets("p", [{"name": "m"}])
    client.create_datasets("p", many, skip_existing=True)
    client.hold("p:m", locked=True)
    assert refused(client.create_datasets, "p", many) == 400
    assert refused(client.create_datasets, "none", many) == 404
    client.create_item(parent="p:d", name="i")
    client.create_item(parent="p:d:i", name="below")
    assert refused(client.create_item, parent="none", name="i") == 400
    for kind in ATTRIBUTE_KINDS:
        values = dict.fromkeys(kind.fields, GOOD_VALUES[kind.name])
        client.create_attribute(kind.name, item="p:d", key=kind.name, **values)
        client.create_attribute(kind.name, item="p:d:i:below", key=kind.name, **values)
        bad = {part: [] for part in kind.fields}
        assert refused(client.create_attribute, kind.name, item="p:d", key="k", **bad) == 400
    client.get_project("p")
    assert refused(client.get_project, "none") == 404
    for paused in (True, False):
        assert client.pause("p", paused=paused)["paused"] is paused
    assert len(client.get_dataset("p:d")["attributes"]) == len(ATTRIBUTE_KINDS)
    assert refused(client.get_dataset, "p:none") == 404
    for number in range(20):
        client.create_dataset(parent="p", name=f"more {number}", locked=True)
    lists = ["datasets", "projects", "items", *(f"attributes/{kind.name}" for kind in ATTRIBUTE_KINDS)]
    assert all(list(client.pages(f"api/{name}/")) for name in lists)
    assert client.next() == client.next("p") == "p:d"
    assert refused(client.next, "none") == 404

    # A claim and its statuses.
    request = ClaimRequest("r1", client="host:1", project="p", flow_run_id="f", flow_run_url="http://h/f")
    claim = client.claim(request)
    assert client.claim(request) == claim
    assert client.claim(ClaimRequest("r2", project="p")) is None
    assert refused(client.claim, ClaimRequest("r3", dataset="p:d")) == 409
    assert refused(client.claim, ClaimRequest("r4", dataset="p:none")) == 404
    assert refused(client.claim, ClaimRequest("")) == 400
    client.heartbeat(claim.claim, claim.fence, {"stage": 1, "done": 0, "total": 0, "what": ""})
    client.heartbeat(claim.claim, claim.fence, None, "last\nlines\n")
    client.heartbeat(claim.claim, claim.fence)
    assert refused(client.heartbeat, claim.claim, claim.fence + 1) == 409
    assert refused(client.heartbeat, 999, 1) == 404
    assert refused(bob.heartbeat, claim.claim, claim.fence) == 403
    assert refused(client.heartbeat, claim.claim, claim.fence, {"much": "x" * 5000}) == 400
    event = StatusEvent(
        event_id="e1",
        site=claim.site,
        claim=claim.claim,
        fence=claim.fence,
        dataset=claim.dataset["id"],
        stage=Stage.SETUP,
        state=State.START,
        note="ä\n",
        flow_run_id="f",
        flow_run_url="http://h/f",
        diagnostics={"hostname": "h", "memory_total": 2**40},
    )
    assert client.post_status(event)["effective"]
    assert client.post_status(event)["effective"]
    assert refused(client.post_status, but(event, note="another")) == 422
    assert refused(bob.post_status, but(event, event_id="e2")) == 403
    assert refused(client.post_status, but(event, event_id="e3", claim=999)) == 404
    assert refused(client.post_status, but(event, event_id="e4", dataset=0)) == 400
    assert refused(client.post_status, but(event, event_id="e5", fence=claim.fence + 1)) == 409
    bare = but(event, event_id="e6", state=State.SUCCESS, flow_run_id="", flow_run_url="", note="", diagnostics={})
    assert client.post_status(bare)["effective"]
    assert len(list(client.pages("api/statuses/", dataset=str(claim.dataset["id"])))) >= 2
    assert refused(bob.release, claim.claim, claim.fence, "mine") == 403
    client.cancel(claim.claim)
    assert client.heartbeat(claim.claim, claim.fence)["cancel"]
    assert refused(client.cancel, 999) == 404
    client.release(claim.claim, claim.fence, "SIGTERM")
    assert refused(client.release, claim.claim, claim.fence, "again") == 409
    assert refused(client.cancel, claim.claim) == 409
    assert refused(client.claim, request) == 409
    old = {"dataset": claim.dataset["id"], "stage": 1, "state": 2, "event_id": "old"}
    assert client.post_bare_status(old)["refusal"] == "no_run"
    assert client.retry("p:d", dry_run=True)["datasets"] == ["p:d"]
    assert client.retry_failed("p", dry_run=True) == client.retry("p:d", dry_run=True)
    assert client.retry_failed("p")["count"] == 1
    assert client.retry("p:d")["count"] == 0
    assert refused(client.retry, "p:none") == 404
    assert refused(client.retry_failed, "none") == 404
    client.claim(ClaimRequest("r5", dataset="p:d"))
    assert refused(client.retry, "p:d") == 409
    assert client.reset("p:d")["state"] == "unprocessed"
    assert refused(client.reset, "p:none") == 404
    assert client.hold("p:d", locked=True)["locked"]
    assert not client.hold("p:d", locked=False)["locked"]
    assert refused(client.hold, "p:none", locked=True) == 404

    # A token that is not known, wherever it is shown.
    for name, words, values in (
        ("claim", (ClaimRequest("r"),), {}),
        ("heartbeat", (claim.claim, 1), {}),
        ("release", (claim.claim, 1, ""), {}),
        ("cancel", (claim.claim,), {}),
        ("post_status", (event,), {}),
        ("get_project", ("p",), {}),
        ("get_dataset", ("p:d",), {}),
        ("create_project", (), {"name": "x"}),
        ("create_dataset", (), {"parent": "p", "name": "x"}),
        ("create_datasets", ("p", [{"name": "x"}]), {}),
        ("create_item", (), {"parent": "p", "name": "x"}),
        ("create_attribute", ("char",), {"item": "p", "key": "k", "value": "v"}),
        ("reset", ("p:d",), {}),
        ("retry", ("p:d",), {}),
        ("retry_failed", ("p",), {}),
        ("hold", ("p:d",), {"locked": True}),
        ("next", (), {}),
    ):
        with pytest.raises(Unauthorized):
            getattr(stranger, name)(*words, **values)
    with pytest.raises(Unauthorized):
        list(stranger.pages("api/statuses/"))

    methods = {name for name in vars(CrunchClient) if not name.startswith("_")} - {"close", "claim_no_more"}
    assert called == methods
    assert {status for _, _, status in document.seen} == {200, 201, 204, 400, 401, 403, 404, 409, 422}


def test_what_is_not_in_the_document_is_noticed(document: Document, connect: Callable[[str], CrunchClient]) -> None:
    """The comparison itself: a field, a parameter or a status too many fails."""
    alice = connect(token_of("alice"))
    dataset = alice.create_dataset(parent=alice.create_project(name="P")["slug"], name="d")["id"]
    with pytest.raises(AssertionError, match="Additional properties"):
        # The server passes over what it does not know of a client's report; of all else it refuses it itself.
        alice.post_bare_status({"dataset": dataset, "stage": 1, "state": 1, "event_id": "e", "colour": "red"})
    with pytest.raises(AssertionError, match="parameters"):
        list(alice.pages("api/projects/", colour="red"))
    del document.body["paths"]["/api/projects/"]["post"]["responses"]["201"]
    with pytest.raises(AssertionError, match="201 is not in the document"):
        alice.create_project(name="Q")
    with pytest.raises((AssertionError, CrunchError), match="is not in the document"):
        list(alice.pages("api/nowhere/"))
