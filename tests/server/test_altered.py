"""What a run published and something else wrote over, or deleted, is not handed out: whole, in parts, by anyone."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import AsyncClient, Client
from rest_framework.test import APIClient

from crunch_tasks.contract import published_manifest
from crunch_tasks.errors import Altered
from crunch_tasks.files.manifest import Entry, Manifest, PublishedManifest
from crunch_tasks.files.storage import BLOCK
from server import streaming
from server.models import Dataset
from tests.support.pages import publish, words

PAGE = "/projects/birds/datasets/birds:one"
API = "/api/datasets/birds:one/files/"
HELP = "Put back what was published"


@pytest.fixture(params=["page", "api"])
def get(request: pytest.FixtureRequest, api: APIClient, browser: Client) -> Any:
    """What comes of asking for the file `data`."""
    client, base = (api, API) if request.param == "api" else (browser, f"{PAGE}/files/")
    return lambda method="GET", **headers: client.generic(method, f"{base}data", headers=headers)


def test_a_manifest_that_was_not_committed_is_not_believed(browser: Client, dataset: Dataset, folder: Path) -> None:
    publish(folder, dataset, data=b"right")
    other = PublishedManifest(4, dataset.pk, Manifest({"evil": Entry("0" * 32, 1, 0)}))
    (folder / published_manifest(4)).write_bytes(other.to_bytes())
    text = words(browser.get(PAGE))
    assert "cannot be listed" in text and HELP in text and "Try again" not in text
    assert browser.get(f"{PAGE}/files/evil").status_code == 409


def test_a_manifest_that_was_deleted_is_told_as_such(browser: Client, dataset: Dataset, folder: Path) -> None:
    publish(folder, dataset, data=b"right")
    (folder / published_manifest(4)).unlink()
    text = words(browser.get(PAGE))
    assert "not in the storage any more" in text and HELP in text and "Try again" not in text
    assert browser.get(f"{PAGE}/files/data").status_code == 409


def test_a_published_file_that_was_deleted_is_told_as_such(get: Any, dataset: Dataset, folder: Path) -> None:
    publish(folder, dataset, data=b"right")
    (folder / "data").unlink()
    answer = get()
    assert answer.status_code == 409 and "not in the storage any more" in answer.content.decode()


@pytest.mark.parametrize("written", [b"by hand", b"wrong"], ids=["of another size", "of the same size"])
@pytest.mark.parametrize("part", ["", "bytes=0-", "bytes=2-", "bytes=0-4"])
def test_another_file_is_not_handed_out(get: Any, dataset: Dataset, folder: Path, written: bytes, part: str) -> None:
    publish(folder, dataset, data=b"right")
    etag = get()["ETag"]
    (folder / "data").write_bytes(written)
    for headers in ({}, {"If-Range": etag}, {"If-None-Match": etag}):
        answer = get(**headers, **({"Range": part} if part else {}))
        assert answer.status_code == 409 and HELP in answer.content.decode()


def test_a_part_of_another_file_is_not_taken_for_one_of_the_published(get: Any, dataset: Dataset, folder: Path) -> None:
    publish(folder, dataset, data=b"right")
    before = get("HEAD")["ETag"]
    (folder / "data").write_bytes(b"wrong")
    part = get(Range="bytes=2-3")
    assert (part.status_code, part.getvalue()) == (206, b"on")
    assert part["ETag"] != before
    assert get(Range="bytes=2-3", **{"If-Range": before}).status_code == 409


def test_a_preview_is_of_what_was_published_or_says_that_nobody_knows(
    browser: Client, dataset: Dataset, folder: Path
) -> None:
    publish(folder, dataset, data=b"right", long=b"a" * 3 * BLOCK)
    (folder / "data").write_bytes(b"wrong")
    assert browser.get(f"{PAGE}/look/data").status_code == 409
    assert "which were not compared with the MD5" in words(browser.get(f"{PAGE}/look/long"))


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("begins", [True, False], ids=["begun in the view", "read as it is sent"])
@pytest.mark.parametrize("part", [{}, {"Range": f"bytes={BLOCK + 7}-"}], ids=["whole", "the rest"])
def test_of_another_large_file_less_is_sent_than_was_announced(
    alice: User,
    dataset: Dataset,
    folder: Path,
    part: dict[str, str],
    begins: bool,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(streaming, "MOST_BEFORE", 4 * BLOCK if begins else 0)
    publish(folder, dataset, data=b"a" * (4 * BLOCK))
    (folder / "data").write_bytes(b"b" + b"a" * (4 * BLOCK - 1))

    async def fetch() -> tuple[int, int]:
        client, arrived = AsyncClient(), 0
        await client.aforce_login(alice)
        answer = await client.get(f"{API}data", headers=part)
        with pytest.raises(Altered, match="arrived wrong"):
            async for block in answer:
                arrived += len(block)
        return arrived, int(answer["Content-Length"])

    arrived, announced = asyncio.run(fetch())
    assert 0 < arrived < announced
    assert "birds/one/data" in caplog.text


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("start", [0, 1, BLOCK - 1, BLOCK, 2 * BLOCK + 1, 3 * BLOCK])
def test_the_rest_of_a_large_file_is_that(alice: User, dataset: Dataset, folder: Path, start: int) -> None:
    data = b"".join(bytes([number]) * BLOCK for number in range(3)) + b"end"
    publish(folder, dataset, data=data)

    async def fetch() -> bytes:
        client = AsyncClient()
        await client.aforce_login(alice)
        answer = await client.get(f"{API}data", headers={"Range": f"bytes={start}-"})
        return b"".join([block async for block in answer])

    assert asyncio.run(fetch()) == data[start:]
