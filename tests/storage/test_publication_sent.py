"""What is sent of a workspace: no links out, nothing that changes meanwhile, and nothing replaced in a full storage."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from crunch_tasks.contract import published_manifest
from crunch_tasks.errors import StorageError, WorkspaceError
from crunch_tasks.files.storage import LARGE, Storage
from crunch_tasks.testing import MemoryStorage
from tests.support.faulty import FaultyStorage, Rule
from tests.support.publishing import ORIGINAL, PREFIX, RESULT, Client, Site, filled


def test_a_full_storage_leaves_the_old_dataset_as_it_was(directories: Iterator[Path]) -> None:
    storage = FaultyStorage(filled(MemoryStorage()))
    site = Site(storage)
    Client(site, next(directories)).run()
    storage.rules = [Rule("write", StorageError("The storage is full"), nth=3)]
    with pytest.raises(StorageError, match="full"):
        Client(site, next(directories)).run()
    storage.rules = []
    assert site.dataset() == RESULT


def test_links_that_lead_out_are_reported_and_not_published(directories: Iterator[Path], tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"secret")

    def link(root: Path) -> None:
        (root / "inside").symlink_to("sample#1")
        (root / "outside").symlink_to(tmp_path / "secret")

    site = Site(filled(MemoryStorage()))
    client = Client(site, next(directories))
    client.run(link)
    assert site.dataset() == {**ORIGINAL, "inside": ORIGINAL["sample#1"]}
    (refused,) = client.workspace.walk().refused
    assert "outside" in refused


@pytest.mark.parametrize("name", ["growing", "log.txt"])
def test_a_file_that_changes_during_upload_fails_it_and_commits_nothing(directories: Iterator[Path], name: str) -> None:
    site = Site(filled(MemoryStorage()))
    client = Client(site, next(directories))
    client.claim()
    client.set_up()
    (client.workspace.root / name).write_bytes(b"1")
    walk = client.workspace.walk()
    (client.workspace.root / name).write_bytes(b"12")
    with pytest.raises(WorkspaceError, match=name):
        client.upload(walk)
    assert f"{PREFIX}/{published_manifest(1)}" not in site.storage.objects
    assert site.dataset() == ORIGINAL


def test_new_files_are_hashed_while_they_are_sent_and_the_manifest_has_their_sums(
    storage: Storage, directories: Iterator[Path]
) -> None:
    results = {"large": bytes(range(251)) * (LARGE // 250), "small": b"small", "empty": b""}

    def work(root: Path) -> None:
        for name, data in results.items():
            (root / name).write_bytes(data)

    site = Site(filled(storage))
    client = Client(site, next(directories))
    published = client.run(work)
    expected = {name: hashlib.md5(data).hexdigest() for name, data in (ORIGINAL | results).items()}
    assert {path: entry.md5 for path, entry in published.final.items()} == expected
    assert {path: source.md5 for path, source in site.inputs().files.items()} == expected
    # What was learnt while sending is known afterwards: nothing is hashed or sent again.
    assert client.run(lambda root: None).sent == 0
    assert site.dataset() == ORIGINAL | results
