"""Files dropped on a page in a real Chromium go straight into a real S3, or through the server where it refuses."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from playwright.sync_api import Page, expect

from crunch_tasks.files.opening import open_storage
from crunch_tasks.files.storage import Storage
from tests.support.browsing import drop, no_sideways_scrolling
from tests.support.seaweed import SeaweedS3, seaweed
from tests.support.servers import CrunchServer, crunch_server

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("browser")]

NOTE = "The storage took no files from this page"


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SeaweedS3]:
    with seaweed(tmp_path_factory.mktemp("seaweed")) as running:
        running.make_bucket("pages")
        yield running


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, s3: SeaweedS3) -> Iterator[CrunchServer]:
    folder = tmp_path_factory.mktemp("direct")
    (folder / "storage.toml").write_text(s3.toml("pages"))
    with crunch_server(folder, storage_settings=folder / "storage.toml", users=("alice",)) as running:
        with running.client() as api:
            api.post("/api/projects/", json={"name": "Birds", "workflow": "true\n"}).raise_for_status()
        yield running


@pytest.fixture
def storage(s3: SeaweedS3) -> Storage:
    return open_storage(s3.storage("pages"))


@pytest.fixture
def dataset(server: CrunchServer) -> dict[str, Any]:
    with server.client() as api:
        body = {"name": f"inputs {uuid.uuid4().hex[:8]}", "parent": "birds", "locked": True}
        made: dict[str, Any] = api.post("/api/datasets/", json=body).json()
    return made


def allow(s3: SeaweedS3, origin: str) -> None:
    """Pages of this origin, and no others, may put files into the bucket: the rule of docs/operations.md."""
    rule = {"AllowedOrigins": [origin], "AllowedMethods": ["PUT"], "AllowedHeaders": ["content-md5", "content-type"]}
    s3._boto3().put_bucket_cors(Bucket="pages", CORSConfiguration={"CORSRules": [rule]})


def sent(page: Page) -> list[str]:
    """Method and address, without its query, of each request with a body that the page makes from now on."""
    found: list[str] = []
    page.on("request", lambda request: found.append(f"{request.method} {request.url.partition('?')[0]}"))
    return found


def only(found: list[str], *parts: str) -> int:
    """How many of the requests have all these parts."""
    return sum(all(part in one for part in parts) for one in found)


@pytest.mark.parametrize("page", ["desktop"], indirect=True)
def test_files_go_straight_into_the_storage(
    page: Page, server: CrunchServer, s3: SeaweedS3, storage: Storage, dataset: dict[str, Any]
) -> None:
    allow(s3, server.url)
    page.goto(f"/projects/birds/datasets/{quote(dataset['slug'])}")
    requests = sent(page)
    # The page makes their MD5s itself: of slices and a rest, and of what just fits into its blocks or does not.
    texts = {"large.txt": "é" * (1024 * 1024 + 30), "ä #1.txt": "dropped", "empty": ""}
    texts |= {f"{size} bytes": "x" * size for size in (55, 56, 64)}
    drop(page, texts)
    expect(page.get_by_role("link", name="ä #1.txt", exact=True)).to_be_visible()
    assert only(requests, f"PUT {s3.endpoint}/pages/.crunch-uploads/") == len(texts)
    assert only(requests, f"POST {server.url}", "/upload/") == 0
    prefix = f"{dataset['base_file_path']}/"
    found = {info.key.removeprefix(prefix): info.md5 for info in storage.list_objects(prefix)}
    assert found == {name: hashlib.md5(text.encode()).hexdigest() for name, text in texts.items()}
    assert not list(storage.list_objects(".crunch-uploads/"))
    expect(page.get_by_text(NOTE)).to_be_hidden()
    no_sideways_scrolling(page)


def test_where_the_storage_refuses_they_go_through_the_server(
    unwatched: Page, s3: SeaweedS3, storage: Storage, dataset: dict[str, Any], tmp_path: Path
) -> None:
    allow(s3, "https://another.example.org")
    page = unwatched
    page.goto(f"/projects/birds/datasets/{quote(dataset['slug'])}")
    requests = sent(page)
    (tmp_path / "chosen.txt").write_text("chosen")
    page.get_by_label("Choose files").set_input_files(tmp_path / "chosen.txt")
    expect(page.get_by_role("link", name="chosen.txt", exact=True)).to_be_visible()
    expect(page.get_by_text(NOTE)).to_be_visible()
    no_sideways_scrolling(page)
    assert only(requests, "POST", "/upload/chosen.txt") == 1
    drop(page, {"dropped.txt": "dropped"})
    expect(page.get_by_role("link", name="dropped.txt", exact=True)).to_be_visible()
    assert only(requests, "PUT") == 1, "it asks the storage once"
    for name in ("chosen", "dropped"):
        assert storage.read(f"{dataset['base_file_path']}/{name}.txt") == name.encode()
    drop(page, {"dropped.txt": "another"})
    expect(page.get_by_role("form", name="Add files")).to_contain_text("There is a file 'dropped.txt' already")
    assert storage.read(f"{dataset['base_file_path']}/dropped.txt") == b"dropped"


def test_what_the_storage_only_says_to_have_goes_through_the_server(
    unwatched: Page, server: CrunchServer, s3: SeaweedS3, storage: Storage, dataset: dict[str, Any]
) -> None:
    page = unwatched
    page.goto(f"/projects/birds/datasets/{quote(dataset['slug'])}")
    requests = sent(page)
    lie = {"status": 200, "headers": {"Access-Control-Allow-Origin": server.url}}
    page.route(f"{s3.endpoint}/**", lambda route: route.fulfill(**lie))
    drop(page, {"lost.txt": "lost"})
    expect(page.get_by_role("link", name="lost.txt", exact=True)).to_be_visible()
    assert [only(requests, "PUT"), only(requests, "/end-upload/"), only(requests, "/upload/lost.txt")] == [1, 1, 1]
    assert storage.read(f"{dataset['base_file_path']}/lost.txt") == b"lost"
