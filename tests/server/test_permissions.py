"""Who may do what: the whole matrix route by route, members, tokens, the workflow's own right, the audit trail."""

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
from server.models import AccessToken, Attribute, Change, Claim, Dataset, Membership, Project, Role, WebhookDelivery
from server.permissions import NEEDS, Act, Actor
from server.routes import Route, routes
from server.services import catalogue, claims, tokens, webhooks
from tests.support.calls import claim, signed_in

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


# --- members -------------------------------------------------------------------------------------------------------


@pytest.fixture
def eve(db: None) -> User:
    return User.objects.create_user("eve")


@pytest.fixture
def mine(eve: User) -> Project:
    """Eve's own project, with one dataset."""
    made = catalogue.create_project(eve, name="Mine")
    catalogue.create_dataset(made, name="One")
    return made


def test_whoever_makes_a_project_is_its_manager_and_nobody_else_sees_it(eve: User) -> None:
    assert signed_in(eve).post("/api/projects/", {"name": "Fish"}, format="json").status_code == 201
    member = Membership.objects.get()
    assert (member.user, member.role) == (eve, "manager")
    other = signed_in(User.objects.create_user("other"))
    assert other.get("/api/projects/").json()["results"] == []
    assert other.get("/api/projects/fish/").status_code == 404
    assert other.get("/api/datasets/").json()["results"] == []


def test_a_manager_lets_people_in_and_the_last_one_stays(eve: User, mine: Project, bob: User) -> None:
    api = signed_in(eve)
    assert api.put("/api/projects/mine/members/bob/", {"role": "runner"}, format="json").json() == {
        "user": "bob",
        "role": "runner",
        "edits_workflow": False,
    }
    refused = api.delete("/api/projects/mine/members/eve/")
    assert (refused.status_code, refused.json()["code"]) == (409, "last_manager")
    refused = api.put("/api/projects/mine/members/eve/", {"role": "viewer"}, format="json")
    assert (refused.status_code, refused.json()["code"]) == (409, "last_manager")
    assert api.put("/api/projects/mine/members/nobody/", {"role": "viewer"}, format="json").status_code == 404
    assert api.put("/api/projects/mine/members/bob/", {"role": "king"}, format="json").status_code == 400
    assert api.put("/api/projects/mine/members/bob/", {"role": "manager"}, format="json").status_code == 200
    assert api.delete("/api/projects/mine/members/eve/").status_code == 204
    assert api.get("/api/projects/mine/").status_code == 404
    assert [member.user.username for member in mine.memberships.all()] == ["bob"]


def test_the_page_of_members_adds_changes_and_removes(eve: User, mine: Project, bob: User) -> None:
    client = Client()
    client.force_login(eve)
    page = "/projects/mine/members"
    assert client.post(page, {"user": "bob", "role": "editor", "edits_workflow": "on"}).status_code == 302
    assert mine.memberships.get(user=bob).edits_workflow
    assert "bob is editor now." in client.get(page).content.decode()
    client.post(page, {"user": "nobody", "role": "viewer"})
    assert "There is no user &#x27;nobody&#x27;" in client.get(page).content.decode()
    client.post(page, {"user": "bob", "remove": ""})
    assert not mine.memberships.filter(user=bob).exists()


def test_a_member_who_is_removed_has_lost_the_run(eve: User, mine: Project) -> None:
    runner = User.objects.create_user("runner")
    Membership.objects.create(project=mine, user=runner, role="runner")
    held = claim(signed_in(runner)).json()
    signed_in(eve).delete("/api/projects/mine/members/runner/")
    beat = signed_in(runner).post(f"/api/claims/{held['claim']}/heartbeat/", {"fence": 1}, format="json")
    assert beat.status_code == 404


def test_a_claim_for_any_dataset_takes_only_those_of_ones_own_projects(eve: User, mine: Project) -> None:
    theirs = catalogue.create_project(name="Theirs")
    catalogue.create_dataset(theirs, name="First", priority=9)
    shown = catalogue.create_project(name="Shown", visibility="public")
    catalogue.create_dataset(shown, name="Second", priority=8)
    api = signed_in(eve)
    assert api.get("/api/next/").json() == {"project": "mine", "dataset": "mine:one"}
    assert claim(api).json()["dataset"]["slug"] == "mine:one"
    assert claim(api).status_code == 204
    assert claim(api, project="theirs").status_code == 404
    refused = claim(api, dataset="shown:second")
    assert refused.status_code == 403
    assert "needs the role runner; yours is none" in refused.json()["detail"]


def test_a_paused_project_is_not_claimed_and_its_runs_go_on(eve: User, mine: Project) -> None:
    catalogue.create_dataset(mine, name="Two")
    api, client = signed_in(eve), Client()
    client.force_login(eve)
    held = claim(api).json()
    assert client.post("/projects/mine/pause").status_code == 302
    assert "nothing new is claimed. 1 still running." in client.get("/projects/mine/").content.decode()
    assert claim(api).status_code == 204
    refused = claim(api, dataset="mine:two")
    assert (refused.status_code, refused.json()["code"]) == (409, "paused")
    assert api.post(f"/api/claims/{held['claim']}/heartbeat/", {"fence": 1}, format="json").status_code == 200
    client.post("/projects/mine/resume")
    assert claim(api).status_code == 201


# --- the workflow --------------------------------------------------------------------------------------------------


def test_an_editor_edits_the_workflow_only_with_the_right_to_and_each_version_stays(eve: User, mine: Project) -> None:
    writer = User.objects.create_user("writer")
    member = Membership.objects.create(project=mine, user=writer, role="editor")
    api = signed_in(writer)
    assert api.patch("/api/projects/mine/", {"description": "x"}, format="json").status_code == 200
    refused = api.patch("/api/projects/mine/", {"workflow": "rm -rf ~\n"}, format="json")
    assert refused.status_code == 403
    assert "the right to edit its workflow" in refused.json()["detail"]
    assert api.patch("/api/projects/mine/", {"visibility": "public"}, format="json").status_code == 403
    member.edits_workflow = True
    member.save()
    for text in ("echo one\necho two\n", "echo one\necho 2\n"):
        assert api.patch("/api/projects/mine/", {"workflow": text}, format="json").status_code == 200
    found = api.get("/api/projects/mine/workflows/").json()["results"]
    assert [(version["author"], version["text"]) for version in found] == [
        ("writer", "echo one\necho 2\n"),
        ("writer", "echo one\necho two\n"),
    ]
    client = Client()
    client.force_login(eve)
    page = client.get(f"/projects/mine/workflows/{found[0]['id']}").content.decode()
    assert (
        '<tr class="removed"><td class="how">\N{MINUS SIGN}<span class="hidden"> removed</span></td><td><code>echo two'
        in page
    )
    assert '<tr class="added"><td class="how">+<span class="hidden"> added</span></td><td><code>echo 2' in page
    assert found[0]["sha256"] in page


# --- tokens --------------------------------------------------------------------------------------------------------


def with_key(key: str) -> APIClient:
    return APIClient(HTTP_AUTHORIZATION=f"Token {key}")


def test_a_token_does_what_its_scope_says_and_no_more(eve: User, mine: Project) -> None:
    other = catalogue.create_project(eve, name="Other")
    catalogue.create_dataset(other, name="First", priority=9)
    made = (
        signed_in(eve).post("/api/tokens/", {"name": "node", "project": "mine", "role": "runner"}, format="json").json()
    )
    api = with_key(made["token"])
    assert [row["slug"] for row in api.get("/api/projects/").json()["results"]] == ["mine"]
    assert claim(api).json()["dataset"]["slug"] == "mine:one"
    assert claim(api, project="other").status_code == 404
    assert api.patch("/api/datasets/mine:one/", {"description": "x"}, format="json").status_code == 403
    assert api.post("/api/projects/", {"name": "New"}, format="json").status_code == 403
    assert api.post("/api/tokens/", {"name": "wider", "role": "manager"}, format="json").status_code == 403
    # It is no way around its owner's role either.
    Membership.objects.filter(user=eve, project=mine).update(role="viewer")
    assert claim(api, project="mine").status_code == 403


def test_a_token_is_shown_once_and_kept_hashed_and_tells_when_it_was_used(eve: User, mine: Project) -> None:
    api = signed_in(eve)
    made = api.post("/api/tokens/", {"name": "node"}, format="json").json()
    key = made["token"]
    assert key.startswith("crunch_")
    [listed] = api.get("/api/tokens/").json()["results"]
    assert "token" not in listed
    assert listed["last_used"] is None
    row = AccessToken.objects.values().get()
    assert key not in str(row)
    assert with_key(key).get("/api/projects/").status_code == 200
    assert AccessToken.objects.get().last_used is not None
    assert api.delete(f"/api/tokens/{made['id']}/").status_code == 204
    assert with_key(key).get("/api/projects/").status_code == 401


def test_an_expired_token_says_so(eve: User) -> None:
    _, key = tokens.create(Actor(eve), "old", role=Role.RUNNER, expires=timezone.now() + dt.timedelta(days=1))
    AccessToken.objects.update(expires=timezone.now() - dt.timedelta(seconds=1))
    answer = with_key(key).get("/api/projects/")
    assert answer.status_code == 401
    assert "The token 'old' has expired" in answer.json()["detail"]
    late = {"name": "x", "expires": "2020-01-01T00:00:00Z"}
    assert signed_in(eve).post("/api/tokens/", late, format="json").status_code == 400


def test_ones_own_page_makes_shows_once_and_ends_tokens(eve: User, mine: Project) -> None:
    client = Client()
    client.force_login(eve)
    page = client.post("/account/", {"name": "node", "role": "runner", "days": "30", "project": "mine"})
    text = page.content.decode()
    found = AccessToken.objects.get()
    key = text.partition("CRUNCH_TOKEN=")[2].split()[0].partition("<")[0]
    assert tokens.find(key) == found
    assert (found.project, found.role) == (mine, "runner")
    assert key not in client.get("/account/").content.decode()
    client.post("/account/", {"end": found.pk})
    assert not AccessToken.objects.exists()
    client.post("/account/", {"name": "node", "role": "king", "days": "30"})
    assert "Choose a role" in client.get("/account/").content.decode()


# --- the audit trail -----------------------------------------------------------------------------------------------


def test_the_audit_trail_tells_who_changed_what_from_what_to_what(eve: User, mine: Project) -> None:
    _, key = tokens.create(Actor(eve), "node", role=Role.MANAGER)
    api = with_key(key)
    api.patch("/api/datasets/mine:one/", {"description": "new", "priority": 3}, format="json")
    api.post("/api/datasets/mine:one/reset/", {}, format="json")
    api.delete("/api/datasets/mine:one/")
    found = api.get("/api/projects/mine/changes/").json()["results"]
    assert [(row["user"], row["token_name"], row["act"], row["target"]) for row in found] == [
        ("eve", "node", "delete", "mine:one"),
        ("eve", "node", "reset", "mine:one"),
        ("eve", "node", "edit", "mine:one"),
    ]
    assert (found[2]["before"], found[2]["after"]) == (
        {"description": "", "priority": 0},
        {"description": "new", "priority": 3},
    )
    client = Client()
    client.force_login(eve)
    text = client.get("/projects/mine/changes").content.decode()
    assert "mine:one" in text
    assert "with token node" in text


def test_a_refused_change_leaves_no_trace(eve: User, mine: Project) -> None:
    api = signed_in(eve)
    assert api.patch("/api/datasets/mine:one/", {"base_file_path": "other/x"}, format="json").status_code == 400
    assert not Change.objects.exists()
