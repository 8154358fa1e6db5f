"""Files sent from a dataset's page: what arrives, what is refused before a byte is kept, and who may send."""

from __future__ import annotations

import errno
import hashlib
import io
import os
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client

from crunch_tasks.contract import ClaimRequest, published_manifest
from crunch_tasks.files.folder import FolderStorage
from crunch_tasks.files.manifest import AttemptPlan, Entry, Manifest, PublishedManifest
from crunch_tasks.files.plan import plan_path
from server.models import Change, Dataset, Membership, Project
from server.services import claims, uploads


@pytest.fixture
def editor(project: Project) -> Client:
    user = User.objects.create_user("editor")
    Membership.objects.create(project=project, user=user, role="editor")
    client = Client()
    client.force_login(user)
    return client


def send(client: Client, dataset: Dataset, path: str, data: bytes, query: str = "", **headers: Any) -> Any:
    address = f"/projects/{dataset.project.slug}/datasets/{dataset.slug}/upload/{path}{query}"
    told = {"CONTENT_LENGTH": str(len(data)), "CONTENT_TYPE": "application/octet-stream", **headers}
    return client.generic("POST", address, data, **told)


def kept(folder: Path) -> dict[str, bytes]:
    """Every file in the storage, by its path below the dataset's folder or outside of it."""
    top = folder.parents[1]
    return {str(file.relative_to(top)): file.read_bytes() for file in top.rglob("*") if file.is_file()}


def publish(dataset: Dataset, folder: Path) -> None:
    """As a run of fence 4 does, which made `result` and deleted `gone`; then the dataset waits for its next run."""
    entries = {"result": Entry(hashlib.md5(b"result").hexdigest(), 6, 0)}
    manifest = PublishedManifest(4, dataset.pk, Manifest(entries), deleted=("gone",)).to_bytes()
    (folder / ".crunch").mkdir()
    (folder / published_manifest(4)).write_bytes(manifest)
    (folder / "result").write_bytes(b"result")
    Dataset.objects.update(fence=4, manifest_fence=4, manifest_sha256=hashlib.sha256(manifest).hexdigest())


def test_files_arrive_byte_for_byte_and_are_noted(editor: Client, dataset: Dataset, folder: Path) -> None:
    large = bytes(range(256)) * 40_000
    for path, name, data in (
        ("raw/a%20b%23%C3%A4.txt", "raw/a b#ä.txt", b"x"),
        ("empty", "empty", b""),
        ("large", "large", large),
    ):
        answer = send(editor, dataset, path, data)
        assert (answer.status_code, answer.json()["md5"]) == (201, hashlib.md5(data).hexdigest())
        assert (folder / name).read_bytes() == data
    page = editor.get(f"/projects/birds/datasets/{dataset.slug}").content.decode()
    assert ">a b#ä.txt<" in page and "Choose files" in page
    noted = Change.objects.filter(act="upload").order_by("pk")
    assert noted[0].after == {"file": "raw/a b#ä.txt", "bytes": 1}
    assert noted[0].user is not None and noted[0].user.username == "editor"


BAD = ["..", "../x", "a/../../x", "%2fabs", "/abs", "a//b", "./a", "a%5Cb", "a%00b", "a%0Ab", ".crunch/manifest-1.json"]


@pytest.mark.parametrize("path", [*BAD, ".snakemake/x", "x" * 300])
def test_bad_names_are_refused(editor: Client, dataset: Dataset, folder: Path, path: str) -> None:
    """X1. Nothing is written, inside the dataset's folder or outside of it."""
    answer = send(editor, dataset, path, b"x")
    assert answer.status_code in (400, 404)
    if answer.status_code == 400:
        assert "cannot be used as a name" in answer.json()["detail"]
    assert kept(folder) == {}


def test_too_large_or_cut_short_or_of_no_length(
    editor: Client, dataset: Dataset, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uploads, "MOST_BYTES", 3)
    too_large = send(editor, dataset, "a", b"1234")
    assert (too_large.status_code, too_large.json()["code"]) == (413, "too_large")
    assert "crunch push" in too_large.json()["detail"]
    cut = send(editor, dataset, "a", b"123", **{"wsgi.input": io.BytesIO(b"1")})
    assert (cut.status_code, cut.json()["detail"]) == (400, "Only 1 of 3 bytes arrived. Send the file again.")
    assert send(editor, dataset, "a", b"1", CONTENT_LENGTH="").status_code == 411
    assert send(editor, dataset, "a", b"1", CONTENT_TYPE="text/html").status_code == 415
    assert kept(folder) == {}


def test_a_server_without_a_place_for_the_file_says_so(
    editor: Client, dataset: Dataset, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uploads, "LARGE", 3)
    monkeypatch.setattr("tempfile.tempdir", str(folder / "gone"))
    answer = send(editor, dataset, "a", b"1234")
    assert (answer.status_code, answer.json()["code"]) == (507, "no_room")
    assert "No such file or directory in its temporary folder" in answer.json()["detail"]
    assert send(editor, dataset, "a", b"123").status_code == 201

    class Full(io.BytesIO):
        def flush(self) -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("tempfile.SpooledTemporaryFile", lambda _size: Full())
    full = send(editor, dataset, "b", b"1")
    assert (full.status_code, full.json()["detail"].split(".")[0]) == (
        507,
        "The server has no room to take this in (No space left on device in its temporary folder)",
    )
    assert kept(folder).keys() == {f"{dataset.base_file_path}/a"}


def test_a_file_that_is_there_is_replaced_only_when_asked_to(editor: Client, dataset: Dataset, folder: Path) -> None:
    send(editor, dataset, "a", b"old")
    again = send(editor, dataset, "a", b"new")
    assert (again.status_code, again.json()["code"]) == (409, "exists")
    assert (folder / "a").read_bytes() == b"old"
    assert send(editor, dataset, "a", b"new", "?replace").status_code == 201
    assert (folder / "a").read_bytes() == b"new"
    below = send(editor, dataset, "a/b", b"x")
    assert (below.status_code, below.json()["detail"]) == (
        409,
        "'a' is a file there, so it cannot be a folder too. Rename one.",
    )
    send(editor, dataset, "d/e", b"x")
    assert send(editor, dataset, "d", b"x", "?replace").json()["code"] == "name"


def test_what_a_run_published_deleted_or_left_is_not_replaced(editor: Client, dataset: Dataset, folder: Path) -> None:
    publish(dataset, folder)
    plan = folder / plan_path(5)
    plan.parent.mkdir(parents=True)
    plan.write_bytes(AttemptPlan(5, dataset.pk, Manifest({}), new=("leftover",)).to_bytes())
    for path, code in (("result", "published"), ("gone", "deleted"), ("leftover", "left_behind")):
        answer = send(editor, dataset, path, b"x", "?replace")
        assert (answer.status_code, answer.json()["code"]) == (409, code)
        assert "Retry with new files" in answer.json()["detail"]
    assert (folder / "result").read_bytes() == b"result"
    assert send(editor, dataset, "more", b"x").status_code == 201


@pytest.mark.parametrize(("where", "code"), [("_receive", "published"), ("refuse_taken", "busy")])
def test_what_a_run_publishes_while_a_file_comes_is_not_replaced(
    editor: Client, dataset: Dataset, folder: Path, monkeypatch: pytest.MonkeyPatch, where: str, code: str
) -> None:
    """While its bytes come, and after all was looked at."""
    send(editor, dataset, "result", b"added")
    step, calls = getattr(uploads, where), []

    def step_and_run(*args: Any, **options: Any) -> Any:
        done = step(*args, **options)
        calls.append(where)
        if len(calls) == (2 if where == "refuse_taken" else 1):
            publish(dataset, folder)
        return done

    monkeypatch.setattr(uploads, where, step_and_run)
    late = send(editor, dataset, "result", b"other", "?replace")
    assert (late.status_code, late.json()["code"]) == (409, code)
    assert (folder / "result").read_bytes() == b"result"


def test_nothing_is_added_to_a_dataset_that_is_claimed(
    editor: Client, alice: User, dataset: Dataset, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def claim_it() -> None:
        claims.claim(alice, ClaimRequest("r1", dataset=dataset.slug))

    put = FolderStorage.send

    def send_while_claimed(self: FolderStorage, *args: Any) -> Any:
        claim_it()
        return put(self, *args)

    with monkeypatch.context() as meanwhile:
        meanwhile.setattr(FolderStorage, "send", send_while_claimed)
        late = send(editor, dataset, "a", b"x")
    assert (late.status_code, late.json()["code"]) == (409, "not_unprocessed")
    assert "birds:one is running" in late.json()["detail"]
    assert send(editor, dataset, "a", b"x").status_code == 409
    assert kept(folder) == {}
    assert 'id="live-drop" data-there hidden' in editor.get(f"/projects/birds/datasets/{dataset.slug}").content.decode()


def test_whoever_may_not_edit_sends_nothing(project: Project, dataset: Dataset, folder: Path) -> None:
    """X8."""
    viewer = User.objects.create_user("viewer")
    Membership.objects.create(project=project, user=viewer, role="viewer")
    client = Client()
    assert send(client, dataset, "a", b"x").status_code == 404
    client.force_login(viewer)
    assert send(client, dataset, "a", b"x").status_code == 403
    page = f"/projects/birds/datasets/{dataset.slug}"
    assert 'id="live-drop" data-there hidden' in client.get(page).content.decode()
    Membership.objects.update(role="editor")
    assert 'id="live-drop" data-there hidden' not in client.get(page).content.decode()
    from_elsewhere = Client(enforce_csrf_checks=True)
    from_elsewhere.force_login(User.objects.create_user("boss", is_staff=True))
    assert send(from_elsewhere, dataset, "a", b"x").status_code == 403
    assert kept(folder) == {}


def test_a_storage_that_is_away_is_said(editor: Client, dataset: Dataset, settings: Any) -> None:
    options = {"bucket_name": "b", "endpoint_url": "http://127.0.0.1:9", "access_key": "k", "secret_key": "sEcReT"}
    default = {"BACKEND": "storages.backends.s3.S3Storage", "OPTIONS": {**options, "region_name": "us-east-1"}}
    settings.STORAGES = {**settings.STORAGES, "default": default}
    answer = send(editor, dataset, "a", b"x")
    assert (answer.status_code, answer.json()["code"]) == (503, "storage")
    assert "tell who runs this server: 'birds/one" in answer.json()["detail"]
    assert "sEcReT" not in answer.content.decode()
