"""Pushing a folder, pulling one, comparing one: nothing is lost, nothing is moved twice, every difference is seen."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

import pytest

from crunch_tasks.errors import NamesRefused, ObjectMissing, StorageError, TransferError, UsageError, WorkspaceError
from crunch_tasks.files import checksums, transfer
from crunch_tasks.files.comparison import Sign, compare_folder, compare_storage
from crunch_tasks.files.copies import pull, push
from crunch_tasks.files.manifest import AttemptPlan, Entry, Manifest, PublishedManifest
from crunch_tasks.files.storage import LARGE, Storage
from crunch_tasks.files.workspace import OwnFolder
from crunch_tasks.testing import MemoryStorage
from tests.support.faulty import FaultyStorage, Rule

FILES = {"a b": b"one", "sub/sample#1": b"two" * 1000, "empty": b"", "large.gz": bytes(range(256)) * (LARGE // 256 + 9)}
DATASET: dict[str, Any] = {
    "slug": "p:d",
    "state": "unprocessed",
    "base_file_path": "p/d",
    "manifest_sha256": "",
    "manifest_fence": 0,
}


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transfer, "FIRST_PAUSE_S", 0.0)
    # As if every file were older than a tick of the file system's clock.
    monkeypatch.setattr(checksums, "_CLOCK_TICK_NS", -1)


def own(tmp_path: Path, name: str, files: dict[str, bytes] | None = None) -> OwnFolder:
    root = tmp_path / name
    for path, data in (files or {}).items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(data)
    folder = OwnFolder(tmp_path / "directory", "p:d", root)
    folder.make()
    return folder


def files_of(folder: OwnFolder) -> dict[str, bytes]:
    return {path: (folder.root / path).read_bytes() for path in folder.walk().files}


def signs(rows: list[Any]) -> dict[str, Sign]:
    return {row.path: row.sign for row in rows}


def published(storage: Storage, files: dict[str, bytes]) -> dict[str, Any]:
    """The dataset, as a commit with fence 1 left it."""
    entries = {path: Entry(checksums.hashlib.md5(data).hexdigest(), len(data), 10**18) for path, data in files.items()}
    manifest = PublishedManifest(1, 7, Manifest(entries))
    for path, data in files.items():
        storage.write(f"p/d/{path}", data)
    storage.write("p/d/.crunch/manifest-1.json", manifest.to_bytes())
    return {**DATASET, "manifest_sha256": hashlib.sha256(manifest.to_bytes()).hexdigest(), "manifest_fence": 1}


def test_what_is_pushed_is_pulled_byte_for_byte_and_verified(storage: Storage, tmp_path: Path) -> None:
    there = own(tmp_path, "there", FILES)
    (there.root / ".crunch").mkdir()
    (there.root / ".crunch" / "notes").write_text("not the dataset's")
    done = push(storage, DATASET, there)
    assert (done.sent, done.replaced, done.skipped) == (4, 0, 0)
    assert all(sign is Sign.SAME for sign in signs(compare_folder(storage, DATASET, there)).values())
    here = own(tmp_path, "here")
    assert pull(storage, DATASET, here).moved == 4
    assert files_of(here) == FILES
    assert not (here.root / ".crunch").exists()
    # Another process, the same folders.
    watched = FaultyStorage(storage)
    assert push(watched, DATASET, own(tmp_path, "there")).skipped == 4
    assert pull(watched, DATASET, own(tmp_path, "here")).skipped == 4
    assert [key for _, key in watched.writes if "/.crunch/" not in key] == []
    assert [key for key in watched.reads if "/.crunch/" not in key] == []
    assert set(signs(compare_folder(storage, DATASET, own(tmp_path, "here"))).values()) == {Sign.SAME}


def test_an_interrupted_push_and_pull_move_only_the_rest(tmp_path: Path) -> None:
    storage = FaultyStorage(MemoryStorage(tells_sums=False), [Rule("any write", TransferError("cut"), key="sample#1")])
    with pytest.raises(TransferError):
        push(storage, DATASET, own(tmp_path, "there", FILES))
    storage.rules = []
    sent = len(storage.storage.objects)
    assert push(storage, DATASET, own(tmp_path, "there")).sent == 4 - sent
    storage.rules = [Rule("read", TransferError("cut"), key="empty")]
    with pytest.raises(TransferError):
        pull(storage, DATASET, own(tmp_path, "here"))
    storage.rules = []
    there = len(files_of(own(tmp_path, "here")))
    assert pull(storage, DATASET, own(tmp_path, "here")).moved == 4 - there
    assert files_of(own(tmp_path, "here")) == FILES


def test_a_push_replaces_initial_data_but_no_published_file(tmp_path: Path) -> None:
    storage = MemoryStorage()
    push(storage, DATASET, own(tmp_path, "there", {"a": b"one", "b": b"two"}))
    done = push(storage, DATASET, own(tmp_path, "there", {"a": b"ONE", "c": b"three"}))
    assert (done.sent, done.replaced, done.skipped) == (2, 1, 1)
    assert storage.objects["p/d/a"] == b"ONE"
    dataset = published(storage, {"a": b"result"})
    with pytest.raises(StorageError, match=r"'a'.*published"):
        push(storage, dataset, own(tmp_path, "there"))
    assert storage.objects["p/d/a"] == b"result"
    (tmp_path / "there" / "a").write_bytes(b"result")
    push(storage, dataset, own(tmp_path, "there", {"new": b"input"}))
    assert storage.objects["p/d/new"] == b"input"


def test_a_push_is_refused_where_its_files_would_be_no_inputs(tmp_path: Path) -> None:
    storage = MemoryStorage()
    storage.write("p/d/.crunch/attempts/1/plan.json", AttemptPlan(1, 7, Manifest({}), new=("left",)).to_bytes())
    storage.write("p/d/left", b"by a dead run")
    with pytest.raises(StorageError, match=r"'left'.*Retry with new files"):
        push(storage, DATASET, own(tmp_path, "there", {"left": b"mine"}))
    storage.write("p/d/folder/file", b"x")
    with pytest.raises(NamesRefused, match="both a file and a folder"):
        push(storage, DATASET, own(tmp_path, "other", {"folder": b"a file"}))
    with pytest.raises(NamesRefused, match="control character"):
        push(storage, DATASET, own(tmp_path, "bad", {"new\nline": b""}))
    with pytest.raises(WorkspaceError, match="no files"):
        push(storage, DATASET, own(tmp_path, "nothing", {".crunch/x": b""}))
    assert set(storage.objects) == {"p/d/.crunch/attempts/1/plan.json", "p/d/left", "p/d/folder/file"}


def test_what_is_no_file_is_reported_and_not_sent(tmp_path: Path) -> None:
    folder = own(tmp_path, "there", {"a": b"one"})
    (folder.root / "out").symlink_to("/etc/passwd")
    os.mkfifo(folder.root / "pipe")
    storage = MemoryStorage()
    done = push(storage, DATASET, folder)
    assert [sentence.split(":")[0] for sentence in done.refused] == ["'out'", "'pipe'"]
    assert set(storage.objects) == {"p/d/a"}


def test_a_pull_replaces_nothing_unasked_and_no_folder_or_link_ever(tmp_path: Path) -> None:
    storage = MemoryStorage({"p/d/a": b"one", "p/d/sub/b": b"two"})
    folder = own(tmp_path, "here", {"a": b"mine", "kept": b"mine too"})
    with pytest.raises(WorkspaceError, match=r"'a'.*--overwrite"):
        pull(storage, DATASET, folder)
    assert files_of(folder) == {"a": b"mine", "kept": b"mine too"}
    (tmp_path / "elsewhere").mkdir()
    (folder.root / "sub").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(WorkspaceError, match=r"'sub'.*Move it away"):
        pull(storage, DATASET, folder, overwrite=True)
    (folder.root / "sub").unlink()
    (folder.root / "sub" / "b").mkdir(parents=True)
    (folder.root / "sub" / "b" / "mine").touch()
    with pytest.raises(WorkspaceError, match=r"'sub/b'.*Move it away"):
        pull(storage, DATASET, folder, overwrite=True)
    assert (folder.root / "sub" / "b" / "mine").exists()
    (folder.root / "sub" / "b" / "mine").unlink()
    (folder.root / "sub" / "b").rmdir()
    pull(storage, DATASET, folder, overwrite=True)
    assert files_of(folder) == {"a": b"one", "kept": b"mine too", "sub/b": b"two"}
    with pytest.raises(ObjectMissing, match="no files under"):
        pull(MemoryStorage(), DATASET, own(tmp_path, "other"))


@pytest.mark.parametrize("tells_sums", [True, False])
def test_every_difference_has_its_sign(tmp_path: Path, tells_sums: bool) -> None:
    good = {name: name.encode() for name in ("same", "missing", "longer", "other", "broken")}
    storage = FaultyStorage(MemoryStorage({f"p/d/{path}": data for path, data in good.items()}, tells_sums=tells_sums))
    here = {"same": b"same", "longer": b"longer!", "other": b"OTHER", "broken": b"broken", "extra": b"x"}
    storage.rules = [Rule("read", TransferError("the line is cut"), key="broken")]
    rows = compare_folder(storage, DATASET, own(tmp_path, "here", here))
    broken = Sign.SAME if tells_sums else Sign.ERROR
    assert signs(rows) == {
        "same": Sign.SAME,
        "missing": Sign.MISSING_HERE,
        "extra": Sign.MISSING_THERE,
        "longer": Sign.DIFFERS,
        "other": Sign.DIFFERS,
        "broken": broken,
    }
    assert [row.problem for row in rows if row.sign is Sign.ERROR] == ([] if tells_sums else ["the line is cut"])


@pytest.mark.parametrize("tells_sums", [True, False])
def test_the_storage_is_compared_with_what_was_published(tells_sums: bool) -> None:
    storage = MemoryStorage(tells_sums=tells_sums)
    dataset = published(storage, {name: name.encode() for name in ("same", "missing", "longer", "other")})
    del storage.objects["p/d/missing"]
    storage.objects |= {"p/d/longer": b"longer!", "p/d/other": b"OTHER", "p/d/extra": b"x"}
    assert signs(compare_storage(storage, dataset)) == {
        "same": Sign.SAME,
        "missing": Sign.MISSING_HERE,
        "extra": Sign.MISSING_THERE,
        "longer": Sign.DIFFERS,
        "other": Sign.DIFFERS,
    }
    with pytest.raises(UsageError, match="Nothing was published"):
        compare_storage(storage, DATASET)


def test_a_pull_follows_no_link_called_as_its_own_folder_and_leaves_others_alone(tmp_path: Path) -> None:
    storage = MemoryStorage({"p/d/a": b"one"})
    (tmp_path / "victim" / "partial").mkdir(parents=True)
    (tmp_path / "victim" / "partial" / "precious").write_text("precious")
    folder = own(tmp_path, "here", {"kept": b"mine"})
    (folder.root / ".crunch").symlink_to(tmp_path / "victim")
    with pytest.raises(WorkspaceError, match=r"'.crunch'.*Move it away"):
        pull(storage, DATASET, folder)
    (folder.root / ".crunch").unlink()
    (folder.root / ".crunch" / "partial").mkdir(parents=True)
    (folder.root / ".crunch" / "partial" / "mine").touch()
    pull(storage, DATASET, folder)
    assert (folder.root / ".crunch" / "partial" / "mine").exists()
    assert [path.name for path in (tmp_path / "victim" / "partial").iterdir()] == ["precious"]


def test_files_that_a_run_did_not_fetch_are_pulled_as_the_storage_has_them(tmp_path: Path) -> None:
    storage = MemoryStorage({"p/d/unread": b"never fetched"}, tells_sums=False)
    manifest = PublishedManifest(1, 7, Manifest({}), unread={"unread": 13}).to_bytes()
    storage.write("p/d/.crunch/manifest-1.json", manifest)
    dataset = {**DATASET, "manifest_sha256": hashlib.sha256(manifest).hexdigest(), "manifest_fence": 1}
    here = own(tmp_path, "here")
    assert pull(storage, dataset, here).moved == 1
    assert files_of(here) == {"unread": b"never fetched"}


def test_a_second_push_to_a_dataset_is_refused_while_one_is_under_way(tmp_path: Path) -> None:
    one, other = own(tmp_path, "one", {"a": b"1"}), own(tmp_path, "other", {"b": b"2"})
    told = pytest.raises(WorkspaceError, match=r"process \d+ .* is pushing to p:d")
    with one.lock_dataset(), told, other.lock_dataset():
        pass
    with other.lock_dataset():
        pass
