"""What a run starts from after commits, lost attempts and people's changes, and what is listed as a dataset's files."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from crunch_tasks.contract import published_manifest
from crunch_tasks.errors import Altered, ObjectMissing, StorageError, TransferError
from crunch_tasks.files.plan import plan_path, staged_path
from crunch_tasks.files.reading import find_file, list_files
from crunch_tasks.testing import MemoryStorage
from tests.support.faulty import FaultyStorage, Killed, Rule
from tests.support.publishing import (
    ORIGINAL,
    PREFIX,
    RESULT,
    Client,
    Site,
    filled,
    making,
    workflow,
)


def test_people_may_add_files_before_and_after_a_commit(directories: Iterator[Path]) -> None:
    storage = FaultyStorage(filled(MemoryStorage()), [Rule("write", Killed(), key="upload_md5")])
    site = Site(storage)
    with pytest.raises(Killed):
        Client(site, next(directories)).run()
    storage.rules = []
    storage.write(f"{PREFIX}/added", b"by a person")
    assert site.dataset() == {**ORIGINAL, "added": b"by a person"}
    Client(site, next(directories)).run()
    storage.write(f"{PREFIX}/added later", b"by a person")
    assert site.dataset().keys() == RESULT.keys() | {"added"}
    assert set(site.inputs().files) == RESULT.keys() | {"added", "added later"}


def test_a_deleted_file_stays_deleted_through_later_commits(directories: Iterator[Path]) -> None:
    site = Site(filled(MemoryStorage()))
    Client(site, next(directories)).run()
    Client(site, next(directories)).run(lambda root: (root / "kept").unlink())
    Client(site, next(directories)).run(lambda root: None)
    assert set(site.dataset()) == set(RESULT) - {"kept"}


def test_a_committed_file_that_is_gone_or_spoilt_is_named(directories: Iterator[Path]) -> None:
    storage = filled(MemoryStorage())
    site = Site(storage)
    client = Client(site, next(directories))
    client.run()
    good = storage.objects[f"{PREFIX}/sample#1"]
    storage.write(f"{PREFIX}/sample#1", b"TCGA")
    with pytest.raises(TransferError, match="sample#1"):
        Client(site, next(directories)).set_up()
    storage.write(f"{PREFIX}/sample#1", good + b"longer")
    with pytest.raises(StorageError, match="sample#1"):
        site.inputs()
    storage.delete(f"{PREFIX}/sample#1")
    with pytest.raises(ObjectMissing, match="sample#1"):
        site.inputs()


def test_a_manifest_other_than_the_committed_one_is_refused(directories: Iterator[Path]) -> None:
    storage = filled(MemoryStorage())
    site = Site(storage)
    Client(site, next(directories)).run()
    key = f"{PREFIX}/{published_manifest(1)}"
    storage.write(key, storage.objects[key].replace(b'"dataset":7', b'"dataset":8'))
    with pytest.raises(StorageError, match="SHA-256"):
        site.inputs()


def test_what_an_attempt_sent_before_its_workflow_was_edited_is_no_input(directories: Iterator[Path]) -> None:
    site = Site(filled(MemoryStorage()))
    client = Client(site, next(directories))
    client.claim()
    client.set_up()
    making(v1=b"1", kept=b"one")(client.workspace.root)
    client.upload()
    # The process died before its commit; the same claim goes on, with another workflow.
    client.set_up()
    making(v2=b"2")(client.workspace.root)
    client.commit(client.upload())
    for _ in range(2):
        assert set(site.dataset()) == set(site.inputs().files) == {*ORIGINAL, "v2"}
        assert site.inputs().deleted == {"v1"}
        site.promote()
    assert not any("/attempts/" in key for key in site.storage.objects)


def test_all_that_lost_attempts_left_is_in_the_manifest_and_their_plans_go(directories: Iterator[Path]) -> None:
    site = Site(filled(MemoryStorage()))
    for number in range(3):
        lost = Client(site, next(directories))
        lost.claim()
        lost.set_up()
        making(**{f"lost_{number}": b"x", "out": b"x"})(lost.workspace.root)
        lost.upload()
    Client(site, next(directories)).run(making(out=b"right"))
    assert site.inputs().deleted == {"lost_0", "lost_1", "lost_2"}
    assert site.dataset() == {**ORIGINAL, "out": b"right"}
    assert not any("/attempts/" in key for key in site.storage.objects)
    # A run that was not fetched changes nothing of that.
    Client(site, next(directories), fetched=False).run(making(extra=b"more"))
    assert set(site.inputs().files) == set(site.dataset()) == {*ORIGINAL, "out", "extra"}


def test_a_file_put_back_under_a_deleted_name_stays_ignored_and_is_told(directories: Iterator[Path]) -> None:
    site = Site(filled(MemoryStorage()))
    Client(site, next(directories)).run(lambda root: (root / "unwanted").unlink())
    site.storage.write(f"{PREFIX}/unwanted", b"corrected, by a person")
    assert "unwanted" not in site.inputs().files
    assert "unwanted" in site.inputs().deleted


@pytest.mark.parametrize("when", ["before the upload", "during it"])
@pytest.mark.parametrize("what", ["gone", "of another size", "of the same size"])
def test_an_input_that_changed_in_the_storage_during_the_run_is_not_committed(
    directories: Iterator[Path], what: str, when: str
) -> None:
    storage = FaultyStorage(filled(MemoryStorage(tells_sums=False)))
    site = Site(storage)
    client = Client(site, next(directories))
    client.claim()
    client.set_up()
    workflow(client.workspace.root)

    def meddle() -> None:
        if what == "gone":
            storage.storage.delete(f"{PREFIX}/kept")
        else:
            storage.storage.write(f"{PREFIX}/kept", b"longer" if "another" in what else b"TPEK")

    def during(_: Any) -> None:
        if any("results/part" in key for _, key in storage.writes):
            meddle()

    if when == "during it":
        client.hooks["progress"] = during
    else:
        meddle()
    with pytest.raises(StorageError, match=r"'kept'.*run it again"):
        client.upload()
    assert f"{PREFIX}/{published_manifest(1)}" not in storage.storage.objects
    if when != "during it":
        assert f"{PREFIX}/results/part-0" not in storage.storage.objects


def test_an_input_that_was_written_anew_with_the_same_bytes_is_as_it_was(directories: Iterator[Path]) -> None:
    site = Site(filled(MemoryStorage(tells_sums=False)))

    def rewrite(_: Path) -> None:
        site.storage.write(f"{PREFIX}/kept", b"kept")

    Client(site, next(directories)).run(rewrite)
    assert site.dataset() == ORIGINAL


def test_a_list_of_files_leaves_out_what_lost_attempts_left_and_says_what_is_wrong_with_names(
    directories: Iterator[Path],
) -> None:
    site = Site(filled(MemoryStorage()))
    lost = Client(site, next(directories))
    lost.claim()
    lost.set_up()
    making(lost=b"x")(lost.workspace.root)
    lost.upload()
    site.storage.write(f"{PREFIX}/../x", b"")
    body = {"base_file_path": PREFIX}
    found = list_files(site.storage, body)
    assert set(found.files) == {*ORIGINAL, "../x"}
    assert set(found.problems) == {"../x"}
    assert (found.published, found.cut) == (False, False)
    some = list_files(site.storage, body, limit=2)
    assert (len(some.files), some.cut) == (2, True)
    for path in ("../x", "lost", "nowhere", ".crunch/dataset.json", plan_path(1)):
        assert find_file(site.storage, body, path) is None
    assert find_file(site.storage, body, "kept") == found.files["kept"]


def test_a_list_of_published_files_asks_for_no_listing_of_the_dataset(directories: Iterator[Path]) -> None:
    site = Site(filled(MemoryStorage()))
    client = Client(site, next(directories))
    client.claim()
    client.set_up()
    workflow(client.workspace.root)
    client.commit(client.upload())
    body = {"base_file_path": PREFIX, "manifest_sha256": site.sha256, "manifest_fence": site.committed}
    for key in (f"{PREFIX}/{staged_path(1, 'log.txt')}", f"{PREFIX}/log.txt"):
        assert list_files(site.storage, body).files["log.txt"].key == key
        found = find_file(site.storage, body, "log.txt")
        assert found is not None
        assert (found.key, found.size) == (key, len(RESULT["log.txt"]))
        site.promote()
    site.storage.calls.clear()
    some = list_files(site.storage, body, limit=3)
    assert (len(some.files), some.cut, some.published) == (3, True, True)
    assert "unwanted" not in list_files(site.storage, body).files
    assert find_file(site.storage, body, "unwanted") is None


def test_another_file_of_the_same_size_is_told_where_the_storage_knows_the_sums(directories: Iterator[Path]) -> None:
    site = Site(filled(MemoryStorage()))
    client = Client(site, next(directories))
    client.claim()
    client.set_up()
    client.commit(client.upload())
    body = {"base_file_path": PREFIX, "manifest_sha256": site.sha256, "manifest_fence": site.committed}
    site.storage.write(f"{PREFIX}/kept", b"lost")
    with pytest.raises(Altered, match=r"was published\. Put back what was"):
        find_file(site.storage, body, "kept")


def test_a_list_with_what_was_added_is_what_the_next_run_starts_from(directories: Iterator[Path]) -> None:
    site = Site(filled(MemoryStorage()))
    for name in ("committed", "lost"):
        client = Client(site, next(directories))
        client.claim()
        client.set_up()
        (workflow if name == "committed" else making(lost=b"x"))(client.workspace.root)
        published = client.upload()
        if name == "committed":
            client.commit(published)
    body = {"base_file_path": PREFIX, "manifest_sha256": site.sha256, "manifest_fence": site.committed}
    assert list_files(site.storage, body, added=True).published
    for path in ("more", "results/more", "unwanted"):
        site.storage.write(f"{PREFIX}/{path}", path.encode())
    found = list_files(site.storage, body, added=True)
    assert (found.published, found.added, set(found.files)) == (False, 2, {*RESULT, "more", "results/more"})
    for path in (*found.files, "lost", "unwanted", "nowhere"):
        one = find_file(site.storage, body, path, added=True)
        assert (one and one.key) == ((path in found.files and found.files[path].key) or None)
    assert set(found.files) == set(site.inputs().files)
    some = list_files(site.storage, body, limit=3, added=True)
    assert (len(some.files), some.cut, some.published) == (3, True, False)
