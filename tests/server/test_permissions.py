"""Who may do what: the whole matrix, route by route."""

from __future__ import annotations

import datetime as dt
import itertools
import json
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import transaction
from django.test import Client
from django.utils import timezone
from rest_framework.test import APIClient

from crunch_tasks.contract import ClaimRequest
from server.models import AccessToken, Attribute, Claim, Dataset, Membership, Project, Role, WebhookDelivery
from server.permissions import NEEDS, Act, Actor
from server.routes import Route, routes
from server.services import catalogue, claims, tokens, webhooks
from tests.support.calls import signed_in

pytestmark = pytest.mark.django_db

CAST = ("anonymous", "stranger", "viewer", "runner", "editor", "manager")
ROUTES = routes()


class World:
    """A project with a member of each role, and one of everything that an address can name."""

    def __init__(self, visibility: str) -> None:
        self.project = catalogue.create_project(name="Birds", visibility=visibility, workflow="true\n")
        self.dataset = catalogue.create_dataset(self.project, name="One")
        self.item = catalogue.create_item(self.dataset, name="Nest")
        self.people = {name: User.objects.create_user(name) for name in CAST[1:]}
        for role in Role:
            Membership.objects.create(project=self.project, user=self.people[role], role=role)
        self.attributes = {
            kind: Attribute.objects.create(item=self.item, kind=kind, key=kind, **values)
            for kind, values in KINDS.items()
        }
        self.webhook = webhooks.create(Actor(self.people["manager"]), self.project, "https://example.org/", ["failed"])
        self.delivery = WebhookDelivery.objects.create(webhook=self.webhook, event="failed", dataset="birds:one")
        self.claim: Claim | None = None

    def let_hold(self, user: User | None) -> None:
        """A claim of their own, as nobody may touch another's whatever their role."""
        holder = user or self.people["manager"]
        Dataset.objects.filter(pk=self.dataset.pk).update(state="unprocessed", claim=None, lease_owner=None)
        found = claims.claim(holder, ClaimRequest(f"r{next(_numbers)}"), Project.objects.all())
        assert found is not None
        self.claim = found[0]

    def address(self, path: str, user: User | None) -> str:
        token = AccessToken.objects.filter(user=user).first() if user else None
        kind = next((kind for kind in KINDS if f"attributes/{kind}/" in path), "")
        slug = self.dataset.slug if "/datasets/<slug>" in path else self.project.slug
        slug = self.item.slug if "/items/<slug>" in path else slug
        kind = "char" if path.startswith("/items/") else kind
        number = self.attributes[kind].pk if kind else self.claim.pk if "/claims/" in path and self.claim else 0
        number = token.pk if "/tokens/" in path and token else number
        number = self.project.workflow_versions.get().pk if "workflows/" in path else number
        number = self.webhook.pk if "/webhooks/" in path else number
        number = self.delivery.pk if "/deliveries/" in path else number
        values = {
            "slug": slug,
            "pk": number,
            "project": self.project.slug,
            "dataset": self.dataset.slug,
            "item": self.item.slug,
            "path": "nothing.txt",
            "username": "viewer",
        }
        for name, value in values.items():
            path = path.replace(f"<{name}>", str(value))
        assert "<" not in path, path
        return path


KINDS: dict[str, dict[str, Any]] = {}
_numbers = itertools.count()


@pytest.fixture(autouse=True)
def _kinds() -> None:
    from server.kinds import KINDS as registry

    examples = {"text": "http://x.org/", "number": 1.0, "integer": 1, "boolean": True, "date": dt.date(2026, 1, 1)}
    examples |= {"moment": timezone.now(), "latitude": 1, "longitude": 2}
    for name, kind in registry.items():
        KINDS[name] = {column: examples[column] for column in kind.columns.values()}


BODIES: dict[str, dict[str, Any]] = {
    "/api/claims/": {"request_id": "r", "project": "birds"},
    "/api/statuses/": {"dataset": 0, "stage": 1, "state": 1},
    "/api/datasets/": {"name": "Two", "parent": "birds"},
    "/api/items/": {"name": "Egg", "parent": "birds:one"},
}
"""What a call has to name, so that it is known which project it is about."""


def is_of_api(route: Route) -> bool:
    return route.path.startswith("/api/") or route.act is Act.WATCH


def expected(route: Route, who: str, visibility: str) -> set[int]:
    """The answers that say no: none of them when it is allowed."""
    need, is_api = NEEDS[route.act], is_of_api(route)
    if is_api and who == "anonymous":
        return {401}
    if need.staff:
        return {403}
    if need.role is None or (route.method == "GET" and "<" not in route.path):
        # A list has what the caller may see, be it nothing.
        return {302} if need.signed_in and who == "anonymous" else set()
    seen = visibility == "public" or who in Role.values
    if not seen:
        # Of what a body names it is said that there is no such thing, as of what does not exist.
        names_parent = "parent" in BODIES.get(route.path, {}) or route.path.startswith("/api/attributes/")
        return {400} if names_parent and route.method == "POST" else {404}
    rank = Role(who).rank if who in Role.values else -1
    allowed = (need.public and seen) or rank >= need.role.rank
    if need.own_right:
        allowed = who == "manager"
    if allowed:
        return set()
    return {403}


def call(world: World, route: Route, who: str) -> Any:
    user = world.people.get(who)
    if "/claims/" in route.path:
        world.let_hold(user)
    if is_of_api(route):
        client: Any = signed_in(user) if user else APIClient()
        body = {**BODIES.get(route.path, {})}
        if "dataset" in body:
            body["dataset"] = world.dataset.pk
        if "attributes/" in route.path:
            kind = next(kind for kind in KINDS if f"attributes/{kind}/" in route.path)
            body = {"item": world.item.slug, "key": "k", **world.attributes[kind].values}
        return client.generic(route.method, world.address(route.path, user), _json(body), "application/json")
    client = Client()
    if user:
        client.force_login(user)
    return client.generic(route.method, world.address(route.path, user))


def _json(body: Any) -> str:
    return json.dumps(body, default=str)


@pytest.mark.parametrize("visibility", ["private", "public"])
@pytest.mark.parametrize("who", CAST)
def test_every_route_answers_as_the_matrix_says(who: str, visibility: str) -> None:
    """X8. A route may still refuse what it was asked for (400, 409): that is no question of rights."""
    world = World(visibility)
    wrong = []
    for route in ROUTES:
        with transaction.atomic():
            if who != "anonymous":
                tokens.create(Actor(world.people[who]), "one", role=Role.MANAGER)
            answer = call(world, route, who)
            transaction.set_rollback(True)
        refusals = expected(route, who, visibility)
        if refusals:
            good = answer.status_code in refusals or (
                # A page asks an anonymous visitor who may see it, but do no more, to sign in.
                who == "anonymous" and answer.status_code == 302 and 403 in refusals
            )
        else:
            good = answer.status_code not in (401, 403) and not (
                answer.status_code == 404 and "nothing.txt" not in world.address(route.path, world.people.get(who))
            )
        if not good:
            wrong.append(f"{route.method} {route.path} ({route.act}): {answer.status_code}, not {refusals or 'yes'}")
    assert wrong == []


def test_every_act_is_that_of_a_route() -> None:
    # What changes the workflow is known by the field that changes: see CHANGES_OF.
    assert {route.act for route in ROUTES} | {Act.EDIT_WORKFLOW, Act.SIGN_IN} == set(Act)
