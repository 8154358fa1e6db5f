"""The forms: what they save byte for byte, what they refuse and say, and what two people do to each other in them."""

from __future__ import annotations

import datetime as dt
import html
import re
from decimal import Decimal
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client

from crunch_tasks.contract import ClaimRequest
from server.models import Attribute, Change, Dataset, Item, Membership, Project
from server.services import catalogue, claims

PROJECT = "/projects/birds/edit"
DATASET = "/projects/birds/datasets/birds:one/edit"


@pytest.fixture
def owner(db: None) -> User:
    return User.objects.create_user("owner")


@pytest.fixture
def project(owner: User) -> Project:
    return catalogue.create_project(owner, name="Birds", workflow="#!/bin/bash\r\necho hi\n", details="old")


def browser(user: User) -> Client:
    client = Client()
    client.force_login(user)
    return client


@pytest.fixture
def owners(owner: User) -> Client:
    return browser(owner)


def member(project: Project, role: str, **values: Any) -> Client:
    user = User.objects.create_user(role)
    Membership.objects.create(project=project, user=user, role=role, **values)
    return browser(user)


def fields(page: str) -> dict[str, str]:
    """What a browser would send of the page's form: with CRLF, and without what is disabled."""
    form = page[page.index('class="card editor"') :]
    found = {}
    for tag, attributes, text in re.findall(r"<(input|textarea)\b([^>]*)>(?:\n?([^<]*)</textarea>)?", form):
        name = re.search(r'name="([^"]*)"', attributes)
        value = re.search(r'value="([^"]*)"', attributes)
        is_choice = "checkbox" in attributes or "radio" in attributes
        if name and " disabled" not in attributes and (not is_choice or " checked" in attributes):
            sent = text if tag == "textarea" else value[1] if value else "on" if is_choice else ""
            found[name[1]] = re.sub(r"\r\n|\r|\n", "\r\n", html.unescape(sent))
    for name, options in re.findall(r'<select name="(\w+)"[^>]*>(.*?)</select>', form, re.DOTALL):
        chosen = re.search(r'value="([^"]*)" selected', options) or re.search(r'value="([^"]*)"', options)
        found[name] = chosen[1] if chosen else ""
    return found


def send(client: Client, path: str, **changes: str) -> Any:
    """Open the form, change these fields, and send it."""
    return client.post(path, {**fields(client.get(path).content.decode()), **changes})


# --- projects --------------------------------------------------------------------------------------------------------


def test_whoever_makes_a_project_manages_it_and_its_workflow_is_kept_byte_for_byte(owner: User, owners: Client) -> None:
    script = "\n\n#!/bin/bash\n\techo ' <&> é '  \n\n"
    answer = send(owners, "/new-project", name="My birds", workflow=script.replace("\n", "\r\n"), visibility="public")
    assert answer.headers["Location"] == "/projects/my-birds/"
    made = Project.objects.get()
    assert (made.workflow, made.visibility, made.lease_seconds) == (script, "public", 900)
    assert made.memberships.get().user == owner
    assert made.workflow_versions.get().author == owner
    assert (Change.objects.get().act, Change.objects.get().user) == ("create", owner)


def test_a_wrong_project_is_refused_beside_the_fields_and_nothing_is_lost(owners: Client, project: Project) -> None:
    answer = send(owners, "/new-project", name="Birds", description="Kept", lease_seconds="0", workflow_type="make")
    page = answer.content.decode()
    assert "Ensure this value is greater than or equal to 1." in page
    assert "make is not one of the available choices" in page
    assert 'value="Kept"' in page
    page = send(owners, "/new-project", name="Birds").content.decode()
    assert "There is &#x27;birds&#x27; already. Choose another name." in page
    assert "The name needs a letter or a digit" in send(owners, "/new-project", name="?!").content.decode()
    assert Project.objects.count() == 1


def test_saving_an_unedited_form_changes_nothing(owners: Client, project: Project) -> None:
    before = Project.objects.values().get()
    assert send(owners, PROJECT).status_code == 302
    assert Project.objects.values().get() == before
    assert not Change.objects.exists()


def test_an_edit_saves_what_was_edited_and_notes_it(owners: Client, project: Project) -> None:
    script = "#!/bin/bash\necho two\n"
    assert send(owners, PROJECT, workflow=script, max_attempts="5", name="Other").status_code == 302
    project.refresh_from_db()
    assert (project.name, project.workflow, project.max_attempts) == ("Birds", "#!/bin/bash\necho two\n", 5)
    assert project.workflow_versions.count() == 2
    change = Change.objects.get()
    assert change.before == {"workflow": "#!/bin/bash\r\necho hi\n", "max_attempts": 3}
    assert change.after == {"workflow": script, "max_attempts": 5}


def test_what_a_visitor_may_not_change_is_shown_disabled_with_the_reason(project: Project) -> None:
    editor = member(project, "editor")
    page = editor.get(PROJECT).content.decode()
    assert not {"workflow", "visibility", "lease_seconds", "name"} & fields(page).keys()
    assert "needs the role editor with the right to edit its workflow; yours is editor" in page
    assert send(editor, PROJECT, details="new", workflow="rm -rf ~", visibility="public").status_code == 302
    project.refresh_from_db()
    assert (project.details, project.workflow[:11], project.visibility) == ("new", "#!/bin/bash", "private")
    writer = Membership.objects.get(role="editor")
    writer.edits_workflow = True
    writer.save()
    send(editor, PROJECT, workflow="echo mine\n")
    project.refresh_from_db()
    assert project.workflow == "echo mine\n"


def test_the_way_to_the_forms_is_shown_to_those_who_may(owners: Client, project: Project) -> None:
    catalogue.create_dataset(project, name="One")
    runner = member(project, "runner")
    for page, way in (
        ("/projects/birds/", PROJECT),
        ("/projects/birds/", "/projects/birds/new-dataset"),
        ("/projects/birds/datasets/birds:one", DATASET),
    ):
        assert f'href="{way}"' in owners.get(page).content.decode()
        assert f'href="{way}"' not in runner.get(page).content.decode()
        assert runner.get(way).status_code == 403
    assert 'href="/new-project"' in owners.get("/").content.decode()
    assert 'href="/new-project"' not in Client().get("/").content.decode()
    assert Client().get("/new-project").headers["Location"].startswith("/accounts/login/")


# --- two at once -----------------------------------------------------------------------------------------------------


def test_two_who_edit_at_once_both_keep_what_they_wrote(owners: Client, project: Project) -> None:
    shown = fields(owners.get(PROJECT).content.decode())
    send(owners, PROJECT, details="theirs", description="theirs too")
    answer = owners.post(PROJECT, {**shown, "details": "mine", "max_attempts": "7"})
    page = answer.content.decode()
    assert "Somebody changed this meanwhile" in page
    again = fields(page)
    assert (again["details"], again["description"], again["max_attempts"]) == ("mine", "theirs too", "7")
    assert re.search(r"as it is stored now.*?<pre[^>]*>theirs</pre>", page, re.DOTALL)
    project.refresh_from_db()
    assert (project.details, project.max_attempts) == ("theirs", 3)
    assert owners.post(PROJECT, again).status_code == 302
    project.refresh_from_db()
    assert (project.details, project.description, project.max_attempts) == ("mine", "theirs too", 7)


def test_a_hold_by_another_is_not_undone_by_an_edit(owners: Client, project: Project) -> None:
    dataset = catalogue.create_dataset(project, name="One")
    shown = fields(owners.get(DATASET).content.decode())
    owners.post("/projects/birds/datasets/birds:one/hold")
    page = owners.post(DATASET, {**shown, "priority": "4"}).content.decode()
    assert fields(page)["locked"] == "on"
    owners.post(DATASET, fields(page))
    dataset.refresh_from_db()
    assert (dataset.locked, dataset.priority) == (True, 4)


@pytest.mark.slow
def test_both_databases_let_one_save_after_the_other(database: None) -> None:
    owner = User.objects.create_user("owner")
    birds = catalogue.create_project(owner, name="Birds")
    dataset = catalogue.create_dataset(birds, name="One")
    client = browser(owner)
    shown = fields(client.get(DATASET).content.decode())
    assert send(client, DATASET, details="theirs", base_file_path="birds/other").status_code == 302
    page = client.post(DATASET, {**shown, "details": "mine"}).content.decode()
    assert client.post(DATASET, fields(page)).status_code == 302
    dataset.refresh_from_db()
    assert (dataset.details, dataset.base_file_path) == ("mine", "birds/other")
    assert send(client, "/items/birds:one/new-attribute?kind=int", key="k", value="1").status_code == 302
    assert client.post("/projects/birds/datasets/birds:one/delete").status_code == 302
    assert send(client, PROJECT, details="last").status_code == 302


@pytest.mark.parametrize("seen", ["", "{", "[1]", '{"details": 5}', "[" * 20000])
def test_a_hidden_field_that_was_tampered_with_is_no_error_of_the_server(
    owners: Client, project: Project, seen: str
) -> None:
    assert send(owners, PROJECT, seen=seen, details="new").status_code in (200, 302)


# --- datasets --------------------------------------------------------------------------------------------------------


def test_a_dataset_is_made_and_edited(owners: Client, project: Project) -> None:
    answer = send(owners, "/projects/birds/new-dataset", name="One", priority="-2", locked="on")
    assert answer.headers["Location"] == "/projects/birds/datasets/birds:one"
    dataset = Dataset.objects.get()
    assert (dataset.base_file_path, dataset.priority, dataset.locked) == ("birds/one", -2, True)
    assert send(owners, DATASET, base_file_path="birds/other", priority="1").status_code == 302
    dataset.refresh_from_db()
    assert (dataset.base_file_path, dataset.priority) == ("birds/other", 1)
    assert Change.objects.first().after == {"base_file_path": "birds/other", "priority": 1}  # type: ignore[union-attr]


@pytest.mark.parametrize("path", ["finches/x", "birds/../finches", "/etc", "birds", "birds/one/..", "birds/two"])
def test_a_dataset_may_not_point_into_what_is_not_its_own(owners: Client, project: Project, path: str) -> None:
    """X10, on the pages."""
    catalogue.create_dataset(project, name="Two")
    dataset = catalogue.create_dataset(project, name="One")
    for way in (DATASET, "/projects/birds/new-dataset"):
        page = send(owners, way, name="Three", base_file_path=path).content.decode()
        assert re.search(r'id="id_base_file_path_error">The path|would share files with birds:two', page)
    dataset.refresh_from_db()
    assert dataset.base_file_path == "birds/one"
    assert Dataset.objects.count() == 2


# --- attributes and items --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "typed", "kept"),
    [
        ("char", {"value": " two\r\nlines "}, {"text": " two\nlines "}),
        ("float", {"value": "-1.5e3"}, {"number": -1500.0}),
        ("int", {"value": "-3"}, {"integer": -3}),
        ("filesize", {"value": "9007199254740993"}, {"integer": 9007199254740993}),
        ("bool", {"value": "false"}, {"boolean": False}),
        ("date", {"value": "2026-02-28"}, {"date": dt.date(2026, 2, 28)}),
        ("datetime", {"value": "2026-02-28T13:14:15"}, {"moment": dt.datetime(2026, 2, 28, 13, 14, 15, tzinfo=dt.UTC)}),
        ("url", {"value": "https://example.org/?a=b"}, {"text": "https://example.org/?a=b"}),
        (
            "lat-long",
            {"latitude": "-12.5", "longitude": "179.123456789"},
            {"latitude": Decimal("-12.5"), "longitude": Decimal("179.123456789")},
        ),
    ],
)
def test_an_attribute_of_each_kind_is_added_and_an_unedited_form_keeps_it(
    owners: Client, project: Project, kind: str, typed: dict[str, str], kept: dict[str, Any]
) -> None:
    answer = send(owners, f"/items/birds/new-attribute?kind={kind}", key="k", **typed)
    assert answer.headers["Location"] == "/projects/birds/"
    made = Attribute.objects.values().get()
    assert {name: made[name] for name in kept} == kept
    edit = f"/items/birds/attributes/{made['id']}/edit"
    assert f'href="{edit}"' in owners.get("/projects/birds/").content.decode()
    assert send(owners, edit).status_code == 302
    assert Attribute.objects.values().get() == made
    send(owners, edit, key="other")
    assert Attribute.objects.values().get() == {**made, "key": "other"}
    assert [change.act for change in Change.objects.all()] == ["edit", "create"]


def test_a_moment_keeps_the_parts_of_its_second_when_its_key_alone_is_edited(owners: Client, project: Project) -> None:
    moment = dt.datetime(2026, 1, 2, 3, 4, 5, 678, tzinfo=dt.UTC)
    made = Attribute.objects.create(item=project, kind="datetime", key="k", moment=moment)
    send(owners, f"/items/birds/attributes/{made.pk}/edit", key="other")
    made.refresh_from_db()
    assert (made.key, made.moment) == ("other", moment)


@pytest.mark.parametrize(
    ("kind", "typed"),
    [
        ("float", {"value": "nan"}),
        ("int", {"value": "9223372036854775808"}),
        ("filesize", {"value": "-1"}),
        ("bool", {"value": "perhaps"}),
        ("date", {"value": "2026-02-30"}),
        ("datetime", {"value": ""}),
        ("url", {"value": "javascript:alert(1)"}),
        ("char", {"value": "x" * 1024}),
        ("char", {"value": "a\0b"}),
        ("lat-long", {"latitude": "91", "longitude": "0"}),
    ],
)
def test_a_value_that_its_kind_does_not_allow_is_refused_beside_its_field(
    owners: Client, project: Project, kind: str, typed: dict[str, str]
) -> None:
    page = send(owners, f"/items/birds/new-attribute?kind={kind}", key="k", **typed).content.decode()
    assert re.search(r'<p class="wrong" id="id_(value|latitude)_error">\w', page)
    assert not Attribute.objects.exists()


def test_an_unknown_kind_and_another_items_attribute_are_not_there(owners: Client, project: Project) -> None:
    assert owners.get("/items/birds/new-attribute?kind=penguin").status_code == 404
    catalogue.create_dataset(project, name="One")
    made = Attribute.objects.create(item=project, kind="int", key="k", integer=1)
    assert owners.get(f"/items/birds:one/attributes/{made.pk}/edit").status_code == 404
    assert owners.post(f"/items/birds:one/attributes/{made.pk}/delete").status_code == 404
    assert Attribute.objects.exists()


def test_items_are_made_below_anything_and_edited(owners: Client, project: Project) -> None:
    catalogue.create_dataset(project, name="One")
    assert send(owners, "/items/birds/new-item", name="Site").headers["Location"] == "/items/birds:site/"
    assert send(owners, "/items/birds:one/new-item", name="Nest").headers["Location"] == "/items/birds:one:nest/"
    assert send(owners, "/items/birds:one:nest/new-item", name="Egg", details="*blue*").status_code == 302
    assert send(owners, "/items/birds:one:nest:egg/edit", description="One of two").status_code == 302
    assert Item.objects.get(slug="birds:one:nest:egg").description == "One of two"
    # A project and a dataset have forms of their own, with the rights that those need.
    assert owners.get("/items/birds/edit").status_code == 404
    assert owners.post("/items/birds:one/delete").status_code == 404


# --- deleting --------------------------------------------------------------------------------------------------------


def test_deleting_asks_first_and_says_what_goes_and_what_stays(owners: Client, project: Project) -> None:
    dataset = catalogue.create_dataset(project, name="One")
    nest = catalogue.create_item(dataset, name="Nest")
    made = Attribute.objects.create(item=nest, kind="int", key="eggs", integer=3)
    page = owners.get("/projects/birds/datasets/birds:one/delete").content.decode()
    assert "With it go 0 attributes, 1 item with all below it and 0 statuses." in page
    assert "Its files stay in the storage, at birds/one/." in page
    assert "Its value is 3." in owners.get(f"/items/birds:one:nest/attributes/{made.pk}/delete").content.decode()
    assert Dataset.objects.exists()
    for path, back in (
        (f"/items/birds:one:nest/attributes/{made.pk}/delete", "/items/birds:one:nest/"),
        ("/items/birds:one:nest/delete", "/projects/birds/datasets/birds:one"),
        ("/projects/birds/datasets/birds:one/delete", "/projects/birds/"),
    ):
        assert owners.post(path).headers["Location"] == back
    assert list(Item.objects.values_list("slug", flat=True)) == ["birds"]
    targets = [(change.act, change.target) for change in Change.objects.all()]
    assert targets == [("delete", "birds:one"), ("delete", "birds:one:nest"), ("delete", "birds:one:nest eggs")]


def test_deleting_says_that_a_run_is_lost(owner: User, owners: Client, project: Project) -> None:
    catalogue.create_dataset(project, name="One")
    claims.claim(owner, ClaimRequest("r", dataset="birds:one"))
    assert "that run is lost" in owners.get("/projects/birds/datasets/birds:one/delete").content.decode()


def test_a_project_is_deleted_by_a_manager_who_types_its_slug(owner: User, owners: Client, project: Project) -> None:
    for name in ("One", "Two"):
        catalogue.create_dataset(project, name=name)
    claims.claim(owner, ClaimRequest("r", dataset="birds:one"))
    path = "/projects/birds/delete"
    assert f'href="{path}"' in owners.get(PROJECT).content.decode()
    page = owners.get(path).content.decode()
    assert "With it go 2 datasets with all statuses" in page
    assert "The files stay in the storage, at birds/." in page
    assert "1 dataset is being processed now" in page
    for typed in ("", "Birds", "birds:one"):
        assert "so nothing is deleted" in owners.post(path, {"typed": typed}).content.decode()
    assert Dataset.objects.count() == 2

    editor = member(project, "editor")
    assert path not in editor.get(PROJECT).content.decode()
    assert editor.post(path, {"typed": "birds"}).status_code == 403

    done = owners.post(path, {"typed": " birds "}, follow=True)
    assert (done.redirect_chain, "The project Birds is deleted." in done.content.decode()) == ([("/", 302)], True)
    assert not Item.objects.exists()
    assert Change.objects.filter(act="delete", target="birds").exists()


# --- preview ---------------------------------------------------------------------------------------------------------


def test_a_preview_shows_safe_markdown_and_saves_nothing(owners: Client, project: Project) -> None:
    text = "**bold** <script>alert(1)</script> [x](javascript:alert(2))"
    page = send(owners, PROJECT, details=text, preview="details").content.decode()
    shown = page[page.index('id="preview"') :]
    assert "<strong>bold</strong> &lt;script&gt;" in shown
    assert 'href="javascript' not in page
    assert fields(page)["details"] == text
    project.refresh_from_db()
    assert project.details == "old"
