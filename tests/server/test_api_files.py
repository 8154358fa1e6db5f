"""A dataset's files through the API: their list, downloads whole and in parts, and files that are sent."""

from __future__ import annotations

import asyncio
import hashlib
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from django.contrib.auth.models import User
from django.test import AsyncClient, Client
from pytest_django import DjangoAssertNumQueries
from rest_framework.test import APIClient

from crunch_tasks.contract import ClaimRequest
from crunch_tasks.files.manifest import AttemptPlan, Manifest
from crunch_tasks.files.plan import plan_path
from server.models import Change, Dataset, Membership, Project
from server.services import claims, files, uploads
from tests.support.calls import signed_in
from tests.support.pages import publish, take, words

FILES = "/api/datasets/birds:one/files/"
RETRY = "/api/datasets/birds:one/retry/"
UPLOADS = "/api/datasets/birds:one/uploads/"
OCTETS = "application/octet-stream"


def member(project: Project, role: str) -> APIClient:
    user = User.objects.create_user(role)
    Membership.objects.create(project=project, user=user, role=role)
    return signed_in(user)


def send(api: APIClient, path: str, data: bytes, query: str = "", **headers: Any) -> Any:
    return api.generic("PUT", f"{FILES}{path}{query}", data, **{"content_type": OCTETS, **headers})


def away(settings: Any) -> None:
    options = {"bucket_name": "b", "endpoint_url": "http://127.0.0.1:9", "access_key": "k", "secret_key": "sEcReT"}
    default = {"BACKEND": "storages.backends.s3.S3Storage", "OPTIONS": {**options, "region_name": "us-east-1"}}
    settings.STORAGES = {**settings.STORAGES, "default": default}


# --- the list ---------------------------------------------------------------------------------------------------------


def test_files_are_listed_with_where_they_can_be_fetched(
    api: APIClient, dataset: Dataset, folder: Path, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    (folder / "raw").mkdir()
    (folder / "raw" / "a b#%\u00e4?.txt").write_bytes(b"xy")
    (folder / "new\nline").touch()
    (folder / ".crunch" / "logs").mkdir(parents=True)
    (folder / ".crunch" / "logs" / "workflow.log").write_text("all well")
    with django_assert_num_queries(2):
        found = api.get(FILES).json()
    assert (found["published"], found["cut"]) == (False, False)
    bad, file = found["files"]
    assert (bad["url"], "control character" in bad["problem"]) == (None, True)
    assert (file["path"], file["size"], file["md5"], file["problem"]) == ("raw/a b#%\u00e4?.txt", 2, "", "")
    assert api.get(file["url"]).getvalue() == b"xy"
    (record,) = found["records"]
    assert api.get(record["url"]).getvalue() == b"all well"


def test_files_as_published(api: APIClient, dataset: Dataset, folder: Path) -> None:
    (folder / "changed").write_bytes(b"old bytes")
    (folder / "leftover").write_bytes(b"of a run that was lost")
    publish(folder, dataset, ("changed",), changed=b"new", kept=b"kept")
    found = api.get(FILES).json()
    assert found["published"]
    md5s = {"changed": hashlib.md5(b"new").hexdigest(), "kept": hashlib.md5(b"kept").hexdigest()}
    assert {file["path"]: file["md5"] for file in found["files"]} == md5s
    answer = api.get(f"{FILES}changed")
    assert (answer.getvalue(), answer["ETag"][:33]) == (b"new", f'"{md5s["changed"]}')
    assert api.get(f"{FILES}leftover").status_code == 404


def test_until_the_next_run_is_published_what_was_added_for_it_is_seen(
    api: APIClient, browser: Client, alice: User, dataset: Dataset, folder: Path
) -> None:
    def seen() -> tuple[bool, list[str]]:
        found = api.get(FILES).json()
        there = [path for path in ("added", "kept", "leftover") if api.get(FILES + path).status_code == 200]
        assert there == [file["path"] for file in found["files"]]
        return found["published"], there

    page = FILES.replace("/api/datasets/", "/projects/birds/datasets/").removesuffix("/files/")
    publish(folder, dataset, kept=b"kept")
    (folder / "leftover").write_bytes(b"of a run that was lost")
    plan = folder / plan_path(5)
    plan.parent.mkdir(parents=True)
    plan.write_bytes(AttemptPlan(5, dataset.pk, Manifest({}), new=("leftover",)).to_bytes())
    assert api.post(RETRY).status_code == 200
    assert seen() == (True, ["kept"])
    assert send(api, "added", b"x").status_code == 201
    assert seen() == (False, ["added", "kept"])
    assert "as published, and 1 added since" in words(browser.get(page))
    claim = take(alice, dataset, 2)
    assert seen() == (False, ["added", "kept"])
    claims.release(alice, claim.pk, claim.fence)
    publish(folder, dataset, kept=b"kept")
    assert seen() == (True, ["kept"]), "this run deleted it"
    assert "as published " in words(browser.get(page)) and "added since" not in words(browser.get(page))


def test_long_lists_are_cut(api: APIClient, dataset: Dataset, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "LISTED", 3)
    for number in range(4):
        (folder / f"f{number}").touch()
    found = api.get(FILES).json()
    assert (len(found["files"]), found["cut"]) == (3, True)


def test_a_storage_that_is_away_is_told_to_members_alone(
    api: APIClient, project: Project, dataset: Dataset, settings: Any
) -> None:
    away(settings)
    Project.objects.update(visibility="public")
    stranger = signed_in(User.objects.create_user("stranger"))
    for path in ("", "a"):
        told, untold = api.get(FILES + path), stranger.get(FILES + path)
        assert (told.status_code, untold.status_code) == (503, 503)
        assert list(told.json()) == list(untold.json()) == ["detail"]
        assert "127.0.0.1" in told.json()["detail"] and "127.0.0.1" not in untold.json()["detail"]
        assert "sEcReT" not in told.content.decode()
    assert send(api, "a", b"x").json()["code"] == "storage"


# --- downloads, as on a dataset's page --------------------------------------------------------------------------------


@pytest.fixture(params=["page", "api"])
def get(request: pytest.FixtureRequest, api: APIClient, browser: Client) -> Any:
    """How a file is fetched, by whoever knows its name and perhaps says what part."""
    client, base = (api, FILES) if request.param == "api" else (browser, "/projects/birds/datasets/birds:one/files/")
    return lambda path, method="GET", **headers: client.generic(method, base + path, headers=headers)


def test_one_range_is_sent_as_that_part(get: Any, dataset: Dataset, folder: Path) -> None:
    data = bytes(range(256)) * 12_000
    (folder / "a").write_bytes(data)
    whole = get("a")
    assert (whole.status_code, whole["Accept-Ranges"], whole["Content-Length"]) == (200, "bytes", str(len(data)))
    assert whole.getvalue() == data
    for told, first, last in (
        ("bytes=0-0", 0, 0),
        ("bytes=1000000-2500000", 1_000_000, 2_500_000),
        ("bytes=3000000-", 3_000_000, len(data) - 1),
        ("bytes=-5", len(data) - 5, len(data) - 1),
    ):
        part = get("a", Range=told)
        assert (part.status_code, part["Content-Range"]) == (206, f"bytes {first}-{last}/{len(data)}")
        assert (part.getvalue(), part["Content-Length"]) == (data[first : last + 1], str(last + 1 - first))
        assert part["X-Content-Type-Options"] == "nosniff"
        assert part["Content-Disposition"] == 'attachment; filename="a"'
    for told in ("bytes=0-1,5-6", "bytes=5-2", "nonsense"):
        assert (get("a", Range=told).status_code, get("a", Range=told).getvalue()) == (200, data)
    after = get("a", Range=f"bytes={len(data)}-")
    assert (after.status_code, after["Content-Range"]) == (416, f"bytes */{len(data)}")
    assert str(len(data)) in after.json()["detail"]


def test_a_download_goes_on_only_if_the_file_is_the_same(get: Any, dataset: Dataset, folder: Path) -> None:
    publish(folder, dataset, a=b"0123456789")
    etag = get("a")["ETag"]
    assert get("a", Range="bytes=4-", **{"If-Range": etag}).getvalue() == b"456789"
    publish(folder, dataset, a=b"abcdefghij")
    again = get("a", Range="bytes=4-", **{"If-Range": etag})
    assert (again.status_code, again.getvalue()) == (200, b"abcdefghij")
    # Of what was not published by a run nobody knows the MD5 here.
    Dataset.objects.update(manifest_sha256="", manifest_fence=9)
    assert "ETag" not in get("a")


def test_a_file_that_one_has_is_not_sent_again(get: Any, dataset: Dataset, folder: Path) -> None:
    publish(folder, dataset, a=b"0123456789")
    etag = get("a")["ETag"]
    for known in (etag, f"W/{etag}", f'"another", {etag}', "*"):
        for method, more in (("GET", {}), ("HEAD", {}), ("GET", {"Range": "bytes=4-"})):
            there = get("a", method, **{"If-None-Match": known, **more})
            assert (there.status_code, there["ETag"], there.content) == (304, etag, b"")
    publish(folder, dataset, a=b"abcdefghij")
    assert get("a", **{"If-None-Match": etag}).getvalue() == b"abcdefghij"
    assert get("nothing", **{"If-None-Match": "*"}).status_code == 404


def test_a_head_tells_what_a_get_would(get: Any, dataset: Dataset, folder: Path) -> None:
    publish(folder, dataset, a=b"0123456789")
    there = get("a", "HEAD", Range="bytes=4-")
    assert (there.status_code, there["Content-Length"], there["Accept-Ranges"]) == (200, "10", "bytes")
    assert (there["ETag"], there.getvalue()) == (get("a")["ETag"], b"")
    assert get("nothing", "HEAD").status_code == 404


@pytest.mark.django_db(transaction=True)
def test_under_asgi_a_part_is_not_gathered_in_memory(alice: User, dataset: Dataset, folder: Path) -> None:
    size = 5 * 1024 * 1024 + 3
    (folder / "big").write_bytes(b"z" * size)

    async def fetch() -> tuple[bool, int, int]:
        client = AsyncClient()
        await client.aforce_login(alice)
        answer = await client.get(f"{FILES}big", headers={"Range": "bytes=3-"})
        blocks = [len(block) async for block in answer]
        return answer.is_async, max(blocks), sum(blocks)

    is_async, biggest, total = asyncio.run(fetch())
    assert is_async and total == size - 3 and biggest < size / 2


@pytest.mark.parametrize(
    "path",
    ["../neighbour", "%2e%2e/neighbour", "..%2fneighbour", "/etc/passwd", "a//b", "a%00", "a%0A", "a/", "x" * 2000],
)
def test_paths_that_lead_out_are_not_there(api: APIClient, dataset: Dataset, folder: Path, path: str) -> None:
    """X1."""
    (folder.parent / "neighbour").write_text("secret")
    answer = api.get(FILES + path)
    assert answer.status_code == 404
    assert list(answer.json()) == ["detail"]


# --- sending files ----------------------------------------------------------------------------------------------------


def test_a_file_arrives_byte_for_byte_and_is_noted(project: Project, dataset: Dataset, folder: Path) -> None:
    editor = member(project, "editor")
    large = bytes(range(256)) * 40_000
    for path, name, data in (("raw/a%20b%23%C3%A4.txt", "raw/a b#\u00e4.txt", b"x"), ("large", "large", large)):
        answer = send(editor, path, data)
        told = {"path": name, "size": len(data), "md5": hashlib.md5(data).hexdigest()}
        assert (answer.status_code, answer.json()) == (201, told)
        assert editor.get(FILES + path).getvalue() == data
    noted = Change.objects.filter(act="upload").earliest("pk")
    assert (noted.after, noted.user and noted.user.username) == ({"file": "raw/a b#\u00e4.txt", "bytes": 1}, "editor")


def test_a_file_that_is_there_is_replaced_only_when_asked_to(api: APIClient, dataset: Dataset, folder: Path) -> None:
    send(api, "a", b"old")
    for query in ("", "?replace=false", "?replace"):
        assert send(api, "a", b"new", query).json()["code"] == "exists"
    for query in ("?replace=perhaps", "?Replace=true"):
        assert send(api, "a", b"new", query).status_code == 400
    assert (folder / "a").read_bytes() == b"old"
    assert send(api, "a", b"new", "?replace=true").status_code == 201
    assert (folder / "a").read_bytes() == b"new"


def test_a_file_is_sent_only_if_what_is_there_is_what_its_sender_knows(
    api: APIClient, dataset: Dataset, folder: Path
) -> None:
    query = "?replace=true"
    for headers in ({"HTTP_IF_MATCH": "*"}, {"HTTP_IF_MATCH": '"0"'}, {"HTTP_IF_MATCH": "0"}):
        assert send(api, "a", b"new", query, **headers).status_code == 412
    assert send(api, "a", b"first", query, HTTP_IF_NONE_MATCH="*").status_code == 201
    refused = send(api, "a", b"second", query, HTTP_IF_NONE_MATCH="*")
    assert (refused.status_code, refused.json()["code"]) == (412, "changed")
    assert refused.json()["detail"] == "There is a file 'a' already."
    # Of what no run published nobody knows the MD5 here.
    md5 = hashlib.md5(b"first").hexdigest()
    assert send(api, "a", b"second", query, HTTP_IF_MATCH=f'"{md5}"').status_code == 412
    assert send(api, "a", b"second", HTTP_IF_MATCH="*").json()["code"] == "exists"
    assert (folder / "a").read_bytes() == b"first"
    assert send(api, "a", b"second", query, HTTP_IF_MATCH="*", HTTP_IF_NONE_MATCH='"0"').status_code == 201
    assert (folder / "a").read_bytes() == b"second"


def test_what_the_page_refuses_is_refused(
    api: APIClient, alice: User, dataset: Dataset, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """X1."""
    for path in ("%2fabs", "a//b", "a%5Cb", "a%00b", "a%0Ab", "a/", ".crunch/manifest-1.json", "x" * 300):
        answer = send(api, path, b"x")
        assert (answer.status_code, answer.json()["code"]) == (400, "name")
    # What uvicorn makes of %FF%FE, and a browser of a file that is called so.
    for path in ("\ufffd\ufffd", "d/\ufffd.txt"):
        answer = send(api, quote(path), b"x")
        assert (answer.status_code, answer.json()["code"]) == (400, "name")
        assert "not UTF-8" in answer.json()["detail"]
    assert send(api, "a", b"1", CONTENT_LENGTH="").json()["code"] == "length"
    assert send(api, "a", b"1", content_type="text/html").json()["code"] == "media_type"
    with monkeypatch.context() as smaller:
        smaller.setattr(uploads, "MOST_BYTES", 3)
        assert send(api, "a", b"1234").json()["code"] == "too_large"
    claims.claim(alice, ClaimRequest("r1", dataset=dataset.slug))
    assert send(api, "a", b"x").json()["code"] == "not_unprocessed"
    assert not any(file.is_file() for file in folder.rglob("*"))


def test_whoever_may_not_edit_sends_nothing(project: Project, dataset: Dataset, folder: Path) -> None:
    """X8."""
    strange = signed_in(User.objects.create_user("stranger"))
    for api, status in ((member(project, "runner"), 403), (strange, 404), (APIClient(), 401)):
        assert send(api, "a", b"x").status_code == status
        for path in (UPLOADS, f"{UPLOADS}end/"):
            assert api.post(path, {"path": "a", "size": 1, "md5": "0" * 32, "ticket": "x"}).status_code == status
    from_elsewhere = APIClient(enforce_csrf_checks=True)
    from_elsewhere.force_login(User.objects.create_user("boss", is_staff=True))
    assert send(from_elsewhere, "a", b"x").status_code == 403
    assert not any(folder.iterdir())


def test_what_goes_straight_into_no_storage_is_sent_here(api: APIClient, dataset: Dataset, folder: Path) -> None:
    begun = {"path": "a", "size": 1, "md5": hashlib.md5(b"x").hexdigest()}
    answer = api.post(UPLOADS, begun, format="json")
    assert (answer.status_code, answer.json()["code"]) == (409, "through_server")
    for wrong, code in (({"md5": "ABC"}, "sum"), ({"path": "../a"}, "name")):
        assert api.post(UPLOADS, begun | wrong, format="json").json()["code"] == code
    assert api.post(UPLOADS, begun | {"overwrite": True}, format="json").status_code == 400
    made_up = api.post(f"{UPLOADS}end/", {"path": "a", "ticket": "made:up:x"}, format="json")
    assert (made_up.status_code, made_up.json()["code"]) == (400, "ticket")
