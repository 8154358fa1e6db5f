"""The ready site and the reusable app: settings from the environment, their errors, static files, the admin."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core import checks
from django.test import Client, override_settings
from django.urls import include, path, reverse
from rest_framework.authtoken.models import Token
from rest_framework.test import APIClient

from crunch_tasks.files import mounts
from server.forms import unbrowsed
from server.models import Attribute, Dataset, Item, Project
from tests.support.calls import claim, expire
from tests.support.servers import crunch_server

urlpatterns = [path("some/where/", include("server.urls"))]


def manage(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    env = {name: value for name, value in os.environ.items() if not name.startswith(("CRUNCH_", "DJANGO_"))}
    env |= {"CRUNCH_DATA": str(folder), **environment}
    return subprocess.run(
        [sys.executable, "-m", "server", *arguments], env=env, capture_output=True, text=True, check=False
    )


WRONG = {
    "CRUNCH_DEBUG": "maybe",
    "CRUNCH_LOG_FORMAT": "xml",
    "CRUNCH_DATABASE_URL": "mysql://x/y",
    "CRUNCH_CSRF_TRUSTED_ORIGINS": "crunch.example.org",
    "CRUNCH_STORAGE_SETTINGS": "/nowhere/storage.toml",
    "CRUNCH_DATA": "/dev/null/data",
    "PROMETHEUS_MULTIPROC_DIR": "/dev/null/metrics",
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_setting_is_one_clear_error(tmp_path: Path, name: str) -> None:
    done = manage(tmp_path, "check", **{name: WRONG[name]})
    assert done.returncode == 2
    assert done.stderr.startswith("Error: ")
    assert name in done.stderr or WRONG[name] in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_a_database_that_does_not_answer_is_one_clear_error(tmp_path: Path) -> None:
    done = manage(tmp_path, "migrate", CRUNCH_DATABASE_URL="postgresql://nobody@127.0.0.1:9/none")
    assert (done.returncode, "Traceback" in done.stderr) == (2, False)
    assert "CRUNCH_DATABASE_URL" in done.stderr


@pytest.mark.slow
def test_the_secret_key_is_made_once_and_private(tmp_path: Path) -> None:
    show = ("shell", "--verbosity", "0", "-c", "from django.conf import settings; print(settings.SECRET_KEY)")
    first, second = (manage(tmp_path / "data", *show).stdout for _ in range(2))
    assert len(first.strip()) > 50
    assert first == second
    assert stat.S_IMODE((tmp_path / "data" / "secret-key").stat().st_mode) == 0o600
    assert manage(tmp_path / "data", *show, CRUNCH_SECRET_KEY="given").stdout == "given\n"


@pytest.mark.slow
def test_a_production_server_serves_pages_admin_and_static_files(tmp_path: Path) -> None:
    with crunch_server(tmp_path, users=("admin",)) as server, server.client("admin") as client:
        assert client.get("/static/admin/css/base.css").status_code == 200
        assert client.get("/admin/", follow_redirects=True).status_code == 200
        assert client.get("/accounts/login/").status_code == 200
        assert client.get("/api/next/", headers={"Host": "evil.example"}).status_code == 400
        journal = server.manage("shell", "--verbosity", "0", "-c", PRAGMAS).split()
        assert journal == ["wal", "2", "30000"]
        assert not server.manage("check", "--database", "default", "--fail-level", "WARNING").count("crunch.")
        assert "Traceback" not in server.log.read_text()


PRAGMAS = """
from django.db import connection
cursor = connection.cursor()
for name in ("journal_mode", "synchronous", "busy_timeout"):
    print(cursor.execute(f"PRAGMA {name}").fetchone()[0])
"""


@override_settings(ROOT_URLCONF=__name__)
def test_the_app_works_under_any_prefix(api: APIClient, dataset: Dataset) -> None:
    assert reverse("crunch:api:next") == "/some/where/api/next/"
    assert api.get("/some/where/api/next/").json()["dataset"] == "birds:one"


def test_unsafe_settings_are_pointed_out() -> None:
    with override_settings(ALLOWED_HOSTS=["crunch.example.org"], SESSION_COOKIE_SECURE=False):
        assert "crunch.W003" in {message.id for message in checks.run_checks(tags=["security"])}
    with override_settings(ALLOWED_HOSTS=["crunch.example.org"], SESSION_COOKIE_SECURE=True):
        assert "crunch.W003" not in {message.id for message in checks.run_checks(tags=["security"])}


def test_a_database_file_on_a_network_file_system_is_pointed_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = tmp_path / "mountinfo"
    monkeypatch.setattr(mounts, "MOUNT_TABLE", table)
    for kind, found in {"nfs4": True, "lustre": True, "ext4": False, "tmpfs": False}.items():
        table.write_text(f"1 1 0:1 / / rw - {kind} server:/home rw\n")
        ids = {message.id for message in checks.run_checks(tags=["database"], databases=["default"])}
        assert ("crunch.W005" in ids) == found


@pytest.mark.parametrize(
    ("sent", "stored", "kept"),
    [
        ("a\r\nb\r\n", "", "a\nb\n"),
        ("a\r\nb\r\n", "a\r\nb\r\n", "a\r\nb\r\n"),
        ("a\r\nb\r\nc", "a\r\nb\nc", "a\r\nb\nc"),
        ("a\r\nx\r\n", "a\r\nb\r\n", "a\r\nx\r\n"),
        ("  a \r\n", "b\n", "  a \n"),
    ],
)
def test_a_browser_does_not_change_line_ends(sent: str, stored: str, kept: str) -> None:
    assert unbrowsed(sent, stored) == kept


@pytest.fixture
def admin(db: None) -> Client:
    client = Client()
    client.force_login(User.objects.create_superuser("root"))
    return client


INLINE = {f"{rows}-{what}_FORMS": "0" for rows in ("attributes", "memberships") for what in ("TOTAL", "INITIAL")}


def test_the_admin_makes_and_edits_projects_and_datasets(admin: Client, project: Project) -> None:
    limits = {"workflow_type": "script", "lease_seconds": 900, "max_attempts": 3, "visibility": "private"}
    form = {"name": "Fish", "workflow": "#!/bin/sh\r\n ls \r\n", **limits, **INLINE}
    assert admin.post("/admin/server/project/add/", form).status_code == 302
    assert Project.objects.get(slug="fish").workflow == "#!/bin/sh\n ls \n"
    form = {"name": "Cod", "parent": Project.objects.get(slug="fish").pk, "priority": 0, **INLINE}
    assert admin.post("/admin/server/dataset/add/", form).status_code == 302
    cod = Dataset.objects.get(slug="fish:cod")
    assert (cod.project.slug, cod.base_file_path) == ("fish", "fish/cod")
    again = admin.post("/admin/server/dataset/add/", form)
    assert (again.status_code, b"There is" in again.content) == (200, True)
    edit = {"name": "Cod", "priority": 3, "base_file_path": "birds/x", **INLINE}
    assert admin.post(f"/admin/server/dataset/{cod.pk}/change/", edit).status_code == 200
    edit["base_file_path"] = "fish/other"
    assert admin.post(f"/admin/server/dataset/{cod.pk}/change/", edit).status_code == 302
    cod.refresh_from_db()
    assert (cod.priority, cod.base_file_path) == (3, "fish/other")


def opened(admin: Client, dataset: Dataset) -> dict[str, Any]:
    """What a browser would send from the dataset's page as it is now, hidden fields included."""
    form = admin.get(f"/admin/server/dataset/{dataset.pk}/change/").context["adminform"].form
    values = {name: form[name].value() for name in form.fields}
    values |= {f"initial-{name}": values[name] for name, field in form.fields.items() if field.show_hidden_initial}
    return {name: value for name, value in values.items() if value is not None and value is not False} | INLINE


def test_the_admin_moves_no_running_dataset(admin: Client, api: APIClient, dataset: Dataset) -> None:
    form = {**opened(admin, dataset), "base_file_path": "birds/elsewhere", "priority": 5}
    claim(api)
    for _ in range(2):
        answer = admin.post(f"/admin/server/dataset/{dataset.pk}/change/", form)
        assert (answer.status_code, b"The dataset is running" in answer.content) == (200, True)
        expire(dataset.pk)
    dataset.refresh_from_db()
    assert (dataset.base_file_path, dataset.priority) == ("birds/one", 0)


def test_the_admin_does_not_undo_what_another_set_meanwhile(
    admin: Client, dataset: Dataset, meanwhile: dict[str, Any]
) -> None:
    form = {**opened(admin, dataset), "description": "edited"}
    # Before the form came back, and between its check and its save.
    Dataset.objects.update(locked=True, base_file_path="birds/moved")
    meanwhile["priority"] = 7
    assert admin.post(f"/admin/server/dataset/{dataset.pk}/change/", form).status_code == 302
    dataset.refresh_from_db()
    assert (dataset.description, dataset.locked) == ("edited", True)
    assert (dataset.base_file_path, dataset.priority) == ("birds/moved", 7)
    form = opened(admin, dataset)
    del form["locked"]
    assert admin.post(f"/admin/server/dataset/{dataset.pk}/change/", form).status_code == 302
    assert not Dataset.objects.get().locked


def test_the_admin_checks_attributes_as_the_api_does(admin: Client, dataset: Dataset) -> None:
    form = {"item": dataset.pk, "kind": "url", "key": "k", "text": "javascript:alert(1)"}
    assert admin.post("/admin/server/attribute/add/", form).status_code == 200
    assert admin.post("/admin/server/attribute/add/", {**form, "text": "https://example.org"}).status_code == 302
    assert Attribute.objects.get().values == {"value": "https://example.org"}


def test_the_admins_actions_go_through_the_services(admin: Client, api: APIClient, dataset: Dataset) -> None:
    claim(api)
    for action in ("hold", "reset"):
        chosen = {"action": action, "_selected_action": [dataset.pk]}
        assert admin.post("/admin/server/dataset/", chosen).status_code == 302
    dataset.refresh_from_db()
    assert (dataset.state, dataset.locked, dataset.fence) == ("unprocessed", True, 2)
    chosen["action"] = "reset_taking_files"
    assert admin.post("/admin/server/dataset/", chosen).status_code == 302
    dataset.refresh_from_db()
    assert (dataset.fence, dataset.manifest_fence) == (3, 3)


def test_every_page_of_the_admin_opens(admin: Client, api: APIClient, alice: User, dataset: Dataset) -> None:
    item = Item.objects.create(name="Nest", slug="birds:one:nest", parent=dataset)
    found = claim(api).json()
    posted = api.post("/api/statuses/", {"dataset": dataset.pk, "stage": 1, "state": 1})
    pages = {"item": item.pk, "project": dataset.project_id, "dataset": dataset.pk, "claim": found["claim"]}
    pages["status"] = posted.json()["id"]
    for model, pk in pages.items():
        for address in (f"/admin/server/{model}/?q=birds", f"/admin/server/{model}/{pk}/change/"):
            assert admin.get(address).status_code == 200, address
    shown = admin.get(f"/admin/auth/user/{alice.pk}/change/").content.decode()
    assert Token.objects.get(user=alice).key in shown
