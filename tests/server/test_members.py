"""Members of projects, their tokens, the right to edit a workflow, and the audit trail of what they do."""

from __future__ import annotations

import datetime as dt
import re

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.utils import timezone
from rest_framework.authtoken.models import Token
from rest_framework.test import APIClient

from server.models import AccessToken, Change, Membership, Project, Role
from server.permissions import Actor
from server.services import catalogue, members, tokens
from tests.support.calls import claim, signed_in

pytestmark = pytest.mark.django_db


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


def test_whoever_changes_a_member_says_the_role(eve: User, mine: Project, bob: User) -> None:
    Membership.objects.create(project=mine, user=bob, role="editor", edits_workflow=True)
    for name in ("bob", User.objects.create_user("new").username):
        for body in ({}, {"edits_workflow": True}):
            refused = signed_in(eve).put(f"/api/projects/mine/members/{name}/", body, format="json")
            assert (refused.status_code, refused.json()) == (400, {"role": ["This field is required."]})
    [kept] = mine.memberships.exclude(user=eve)
    assert (kept.user, kept.role, kept.edits_workflow) == (bob, "editor", True)


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


def test_who_wrote_a_public_workflow_is_told_to_members_alone(eve: User, mine: Project) -> None:
    Project.objects.update(visibility="public")
    signed_in(eve).patch("/api/projects/mine/", {"workflow": "true\n"}, format="json")
    version = mine.workflow_versions.get()
    pages = ["/projects/mine/workflows", f"/projects/mine/workflows/{version.pk}"]
    clients = {"eve": Client(), "stranger": Client(), "": Client()}
    stranger = User.objects.create_user("stranger")
    clients["eve"].force_login(eve)
    clients["stranger"].force_login(stranger)
    for name, client in clients.items():
        for page in pages:
            # Whoever is signed in is named at the page's head as well.
            main = client.get(page).content.decode().partition("<main")[2]
            assert ("eve" in main, version.sha256[:16] in main) == (name == "eve", True)
    told = [signed_in(user).get("/api/projects/mine/workflows/").json()["results"] for user in (eve, stranger)]
    assert [version["author"] for (version,) in told] == ["eve", None]


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


def test_changes_are_told_in_words_without_what_a_new_thing_leaves_empty(eve: User, mine: Project) -> None:
    api = signed_in(eve)
    api.post("/api/datasets/", {"name": "Two", "parent": "mine", "locked": False}, format="json")
    api.patch("/api/datasets/mine:two/", {"locked": True, "description": "new"}, format="json")
    client = Client()
    client.force_login(eve)
    edit, create = client.get("/projects/mine/changes").content.decode().split("<tbody>")[1].split("</tr>")[:2]
    assert "<code>locked</code> no → yes<" in edit
    assert "<code>description</code> \N{EN DASH} → new<" in edit
    assert "<code>locked</code> no<" in create
    assert "<code>description</code>" not in create


# --- open pages ------------------------------------------------------------------------------------------------------


def test_an_open_page_has_room_for_all_that_a_change_of_rights_may_bring(eve: User, mine: Project) -> None:
    """The parts that the script renews are there for everyone, as it can only fill what is there."""
    part = catalogue.create_item(mine, name="Part")
    viewer = User.objects.create_user("viewer")
    members.set_member(Actor(eve), mine, viewer, Role.VIEWER)
    Token.objects.create(user=eve)
    seen = {}
    for user in (eve, viewer):
        client = Client()
        client.force_login(user)
        for path in (
            "/",
            "/account/",
            "/projects/mine/",
            "/projects/mine/datasets/mine:one",
            "/projects/mine/members",
            f"/items/{part.slug}/",
        ):
            page = client.get(path).content.decode()
            seen[path, user] = re.findall(r'id="(live-[\w-]+)" data-(?:part|there)', page)
    for (path, _), found in seen.items():
        assert found
        assert found == seen[path, eve]


def test_a_refused_change_leaves_no_trace(eve: User, mine: Project) -> None:
    api = signed_in(eve)
    assert api.patch("/api/datasets/mine:one/", {"base_file_path": "other/x"}, format="json").status_code == 400
    assert not Change.objects.exists()
