"""Files on a dataset's page, and their download: what is listed, what is not there, and a storage that is away."""

from __future__ import annotations

import asyncio
import hashlib
import re
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import AsyncClient, Client

from crunch_tasks.files.manifest import AttemptPlan, Manifest
from crunch_tasks.files.plan import plan_path, staged_path
from server.models import Dataset, Membership, Project
from server.pages import files as shown
from server.services import files
from tests.support.pages import publish

BACKEND = "django.core.files.storage.FileSystemStorage"


@pytest.fixture(autouse=True)
def _secrets(folder: Path, tmp_path: Path) -> None:
    """Files beside the dataset's folder, which are none of its own."""
    for beside in (tmp_path / "secret", folder.parent / "neighbour", folder.with_name(f"{folder.name}0")):
        beside.write_text("secret")


def address(dataset: Dataset, path: str = "") -> str:
    return f"/projects/{dataset.project.slug}/datasets/{dataset.slug}/files/{path}"


def page(browser: Client, dataset: Dataset) -> str:
    return browser.get(address(dataset).removesuffix("/files/")).content.decode()


def test_files_as_they_are_in_the_storage(browser: Client, dataset: Dataset, folder: Path) -> None:
    (folder / "raw").mkdir()
    (folder / "raw" / "a b#ä.txt").write_bytes(b"x" * 2048)
    (folder / ".crunch" / "logs").mkdir(parents=True)
    (folder / ".crunch" / "logs" / "workflow.log").write_text("all well")
    text = page(browser, dataset)
    assert ">raw/<" in text and ">a b#ä.txt<" in text and "2.0\xa0KB" in text and "as in the storage" in text
    assert "neighbour" not in text and "secret" not in text
    answer = browser.get(address(dataset, "raw/a%20b%23%C3%A4.txt"))
    assert answer.getvalue() == b"x" * 2048
    assert answer.headers["Content-Length"] == "2048"
    assert answer.headers["Content-Disposition"] == "attachment; filename*=utf-8''a%20b%23%C3%A4.txt"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Content-Type"] == "application/octet-stream"
    assert answer.headers["Content-Security-Policy"].startswith("sandbox")
    assert browser.get(address(dataset, ".crunch/logs/workflow.log")).getvalue() == b"all well"


def test_a_site_whose_folder_is_a_path_and_not_text(
    browser: Client, dataset: Dataset, folder: Path, settings: Any, tmp_path: Path
) -> None:
    options = {"location": tmp_path / "storage", "allow_overwrite": True}
    settings.STORAGES = {**settings.STORAGES, "default": {"BACKEND": BACKEND, "OPTIONS": options}}
    (folder / "raw.txt").write_bytes(b"raw")
    assert "raw.txt" in page(browser, dataset)
    assert browser.get(address(dataset, "raw.txt")).getvalue() == b"raw"


def test_files_as_published(browser: Client, dataset: Dataset, folder: Path) -> None:
    (folder / "changed").write_bytes(b"old bytes")
    (folder / "leftover").write_bytes(b"of a run that was lost")
    publish(folder, dataset, ("changed",), changed=b"new", kept=b"kept")
    text = page(browser, dataset)
    assert "as published" in text and hashlib.md5(b"new").hexdigest() in text
    assert "leftover" not in text and staged_path(4, "changed") not in text
    assert browser.get(address(dataset, "changed")).getvalue() == b"new"
    assert browser.get(address(dataset, "kept")).getvalue() == b"kept"
    assert browser.get(address(dataset, "leftover")).status_code == 404
    assert browser.get(address(dataset, staged_path(4, "changed"))).status_code == 404


def test_what_a_lost_run_left_is_not_there(browser: Client, dataset: Dataset, folder: Path) -> None:
    (folder / "raw").write_bytes(b"raw")
    (folder / "leftover").write_bytes(b"of a run that was lost")
    (folder / ".crunch-part-1").write_bytes(b"half of a")
    plan = folder / plan_path(1)
    plan.parent.mkdir(parents=True)
    plan.write_bytes(AttemptPlan(1, dataset.pk, Manifest({}), new=("leftover",)).to_bytes())
    text = page(browser, dataset)
    assert ">raw<" in text and "leftover" not in text
    for path in ("leftover", ".crunch-part-1"):
        assert browser.get(address(dataset, path)).status_code == 404
    # A person told the server that the files are right as they are.
    Dataset.objects.update(manifest_fence=1)
    assert "leftover" in page(browser, dataset)


def test_a_name_that_cannot_be_kept_is_listed_and_not_linked(browser: Client, dataset: Dataset, folder: Path) -> None:
    (folder / "new\nline").write_bytes(b"x")
    text = page(browser, dataset)
    assert "control character" in text
    assert browser.get(address(dataset, "new%0Aline")).status_code == 404


OUTSIDE = ["../neighbour", "%2e%2e/neighbour", "..%2fneighbour", "a/../../neighbour", "/etc/passwd", "%2fetc/passwd"]
NOWHERE = [
    "a//b",
    "./a",
    "a%5C..%5Cneighbour",
    "a%00",
    "../../../secret",
    "nothing",
    "a",
    ".",
    "..",
    "a%0A",
    "x" * 2000,
]


@pytest.mark.parametrize("path", OUTSIDE + NOWHERE)
def test_paths_that_lead_out_are_not_there(browser: Client, dataset: Dataset, folder: Path, path: str) -> None:
    (folder / "a").mkdir()
    (folder / "a" / "b").write_text("x")
    assert browser.get(address(dataset, path)).status_code == 404


def test_a_link_that_leads_out_hands_nothing_out(
    browser: Client, dataset: Dataset, folder: Path, tmp_path: Path
) -> None:
    (folder / "link").symlink_to(tmp_path / "secret")
    assert browser.get(address(dataset, "link")).status_code == 404


def test_a_storage_that_is_away(browser: Client, dataset: Dataset, settings: Any) -> None:
    options = {"bucket_name": "b", "endpoint_url": "http://127.0.0.1:9", "access_key": "k", "secret_key": "sEcReT"}
    default = {"BACKEND": "storages.backends.s3.S3Storage", "OPTIONS": {**options, "region_name": "us-east-1"}}
    settings.STORAGES = {**settings.STORAGES, "default": default}
    text = page(browser, dataset)
    assert "The files cannot be listed now" in text
    answer = browser.get(address(dataset, "a"))
    assert answer.status_code == 503
    # Alice runs the server.
    for told in (text, answer.content.decode()):
        assert "CRUNCH_STORAGE_SETTINGS" in told and "127.0.0.1:9" in told and "sEcReT" not in told


@pytest.mark.parametrize("who", ["viewer", "another user", "visitor"])
def test_what_is_wrong_with_the_storage_is_told_to_members_and_what_to_do_to_all(
    project: Project, dataset: Dataset, settings: Any, who: str
) -> None:
    Project.objects.update(visibility="public")
    settings.STORAGES = {**settings.STORAGES, "default": {"BACKEND": "no.such.Storage", "OPTIONS": {}}}
    client = Client()
    if who != "visitor":
        user = User.objects.create_user(who)
        client.force_login(user)
        if who == "viewer":
            Membership.objects.create(project=project, user=user, role="viewer")
    for told in (page(client, dataset), client.get(address(dataset, "a")).content.decode()):
        assert "Try again in a while; if that does not help, tell who runs this server." in told
        assert ("no.such" in told) == (who == "viewer")
        assert "CRUNCH_STORAGE_SETTINGS" not in told


def test_long_listings_are_paged_and_cut(
    browser: Client, dataset: Dataset, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(130):
        (folder / f"f{number:03}").touch()
    first = page(browser, dataset)
    assert "f099" in first and "f100" not in first
    assert "files=2#files" in first
    monkeypatch.setattr(files, "LISTED", 110)
    assert "more files in the storage than are listed" in page(browser, dataset)


def look(browser: Client, dataset: Dataset, path: str) -> str:
    answer = browser.get(address(dataset).removesuffix("files/") + f"look/{path}")
    assert answer.status_code == 200
    return answer.content.decode()


def test_the_beginning_of_a_text_is_shown_as_text(browser: Client, dataset: Dataset, folder: Path) -> None:
    """X7. A file's bytes never become live HTML, whatever its name."""
    (folder / "page.html").write_text("<script>alert(1)</script>")
    text = look(browser, dataset, "page.html")
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text and "<script>alert" not in text
    (folder / "<img src=x>").write_text("x")
    assert "<h1>&lt;img src=x&gt;</h1>" in look(browser, dataset, "%3Cimg%20src=x%3E")
    (folder / "long.txt").write_bytes("ä".encode() * 32 * 1024 + b"b" * 100)
    text = look(browser, dataset, "long.txt")
    assert "ä</pre>" in text and "The first 32768 characters" in text
    (folder / "cut.txt").write_bytes(b"x" + "ä".encode() * 64 * 1024)
    assert "ä</pre>" in look(browser, dataset, "cut.txt")
    for name, data in (("binary.txt", b"\x00\x01"), ("latin.txt", b"\xe4\n"), ("odd.svg", b"\x89PNG but no")):
        (folder / name).write_bytes(data)
        assert "neither text in UTF-8 nor an image" in look(browser, dataset, name)
    (folder / "empty.txt").touch()
    assert "This file is empty" in look(browser, dataset, "empty.txt")


@pytest.mark.parametrize(
    ("head", "kind"),
    [
        (b"\x89PNG\r\n\x1a\n", "image/png"),
        (b"\xff\xd8\xff\xe0", "image/jpeg"),
        (b"GIF89a", "image/gif"),
        (b"RIFF\x00\x00\x00\x00WEBPVP8 ", "image/webp"),
    ],
)
def test_an_image_is_known_by_its_bytes(
    browser: Client, dataset: Dataset, folder: Path, head: bytes, kind: str
) -> None:
    (folder / "picture.html").write_bytes(head + b"<script>alert(1)</script>")
    assert "/image/picture.html" in look(browser, dataset, "picture.html")
    answer = browser.get(address(dataset).removesuffix("files/") + "image/picture.html")
    assert answer.headers["Content-Type"] == kind
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Content-Security-Policy"].startswith("sandbox")
    assert answer.headers["Content-Disposition"].startswith("attachment")


def test_what_is_no_image_is_not_handed_out_as_one(browser: Client, dataset: Dataset, folder: Path) -> None:
    for name, data in (("a.svg", b"<svg></svg>"), ("a.png", b"<html>"), ("empty.png", b"")):
        (folder / name).write_bytes(data)
        assert browser.get(address(dataset).removesuffix("files/") + f"image/{name}").status_code == 404
    for path in OUTSIDE + NOWHERE:
        for kind in ("look", "image"):
            assert browser.get(address(dataset).removesuffix("files/") + f"{kind}/{path}").status_code == 404


def test_folders_however_deep_have_a_page(browser: Client, dataset: Dataset, folder: Path) -> None:
    place = folder / "d" / "/".join("d" * 300)
    place.mkdir(parents=True)
    (place / "end").touch()
    assert "d/d/end" in page(browser, dataset)


def test_live_updates_do_not_list_the_storage(
    browser: Client, dataset: Dataset, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shown, "listing", None)
    for path in ("", "/look/a.txt"):
        place = address(dataset).removesuffix("/files/") + path
        answer = browser.get(place, headers={"X-Requested-With": "crunch-live"})
        assert answer.status_code == 200
        assert b"live-file" not in answer.content


def test_an_open_page_is_told_when_to_list_the_storage_again(browser: Client, dataset: Dataset, folder: Path) -> None:
    place = address(dataset).removesuffix("/files/")

    def version(**headers: str) -> str:
        found = re.search('data-version="([^"]*)"', browser.get(place, headers=headers).content.decode())
        assert found is not None
        return found[1]

    first = version()
    assert version(**{"X-Requested-With": "crunch-live"}) == first
    sent = browser.post(f"{place}/upload/a.txt", b"1", content_type="application/octet-stream")
    assert sent.status_code == 201
    assert version(**{"X-Requested-With": "crunch-live"}) == version() != first


@pytest.mark.django_db(transaction=True)
def test_under_asgi_a_download_is_not_gathered_in_memory(alice: User, dataset: Dataset, folder: Path) -> None:
    size = 5 * 1024 * 1024 + 3
    (folder / "big").write_bytes(b"z" * size)

    async def fetch() -> tuple[bool, int, int]:
        client = AsyncClient()
        await client.aforce_login(alice)
        answer = await client.get(address(dataset, "big"))
        blocks = [len(block) async for block in answer]
        return answer.is_async, max(blocks), sum(blocks)

    is_async, biggest, total = asyncio.run(fetch())
    assert is_async and total == size and biggest < size
