"""The forms of projects and datasets: what they save byte for byte, what they refuse, what two do to each other."""

from __future__ import annotations

import re

import pytest
from django.contrib.auth.models import User
from django.test import Client

from server.models import Change, Dataset, Membership, Project
from server.services import catalogue
from tests.support.forms import browser, fields, member, owner, owners, project, send

__all__ = ["owner", "owners", "project"]

PROJECT = "/projects/birds/edit"
DATASET = "/projects/birds/datasets/birds:one/edit"


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
        refused = runner.get(way)
        assert refused.status_code == 403
        told = "in birds needs the role editor; yours is runner. Ask one of its managers."
        assert told in refused.content.decode()
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
