"""What every storage promises, whoever does the work."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from crunch_tasks.errors import (
    LeaseLost,
    ObjectMissing,
    RenamingStorage,
    SettingsError,
    WorkspaceError,
)
from crunch_tasks.files.object_store import PART
from crunch_tasks.files.opening import open_storage
from crunch_tasks.files.storage import Storage
from tests.support.contents import content, nothing
from tests.support.transfers import md5

HOSTILE_NAMES = [
    "-leading dash", "a b", "sample#1", "ä", "x%20y", "q?x=1", "plus+", "'quotes\"", "star*[a]{b}", "tilde~", "a&b;c",
    "x.gz", "x.tar.gz", "deep/er/and/deeper", "\u65e5\u672c\u8a9e", "n" * 255, "Upper", "empty",
]  # fmt: skip


def test_hostile_names_and_bytes_come_back_as_they_were(storage: Storage, tmp_path: Path) -> None:
    bodies = {f"p/d1/{name}": b"" if name == "empty" else b"\x1f\x8b" + name.encode() for name in HOSTILE_NAMES}
    for key, data in bodies.items():
        storage.send(content(data, tmp_path), key, nothing)
    listed = {info.key: info.size for info in storage.list_objects("p/d1/")}
    assert listed == {key: len(data) for key, data in bodies.items()}
    assert {key: storage.read(key) for key in bodies} == bodies


def test_a_prefix_is_a_folder_not_the_start_of_a_name(storage: Storage) -> None:
    storage.write("p/d1/x", b"1")
    storage.write("p/d10/x", b"10")
    assert [info.key for info in storage.list_objects("p/d1/")] == ["p/d1/x"]
    assert list(storage.list_objects("p/d2/")) == []


def test_overwriting_keeps_the_name(storage: Storage, tmp_path: Path) -> None:
    storage.check_overwrites("p/d1/")
    assert list(storage.list_objects("p/d1/")) == []
    storage.send(content(b"old and longer", tmp_path), "p/d1/a", nothing)
    info = storage.send(content(b"new", tmp_path), "p/d1/a", nothing)
    assert (info.key, info.size, info.md5) == ("p/d1/a", 3, md5(b"new"))
    assert storage.read("p/d1/a") == b"new"
    assert [found.key for found in storage.list_objects("p/")] == ["p/d1/a"]


def test_readers_see_the_old_object_until_the_new_one_is_complete(
    storage_of: Callable[[str], Storage], tmp_path: Path
) -> None:
    storage = storage_of("folder")
    storage.write("p/a", b"old")
    seen = []
    data = b"n" * (2 * PART)
    storage.send(content(data, tmp_path), "p/a", lambda: seen.append(storage.read("p/a")))
    assert seen == [b"old"]
    assert storage.read("p/a") == data
    assert [path.name for path in (tmp_path / "storage").rglob("*") if path.is_file()] == ["a"]


def test_what_a_listing_says_is_what_a_send_said(storage: Storage, tmp_path: Path) -> None:
    sent = storage.send(content(b"bytes", tmp_path), "p/a", nothing)
    (listed,) = storage.list_objects("p/")
    assert storage.stat("p/a") == listed
    assert (listed.size, listed.tag) == (sent.size, sent.tag)
    assert listed.md5 in (None, md5(b"bytes"))


def test_copy_and_delete(storage: Storage) -> None:
    storage.write("p/a b", b"one")
    storage.write("p/target#", b"old")
    storage.copy("p/a b", "p/target#")
    assert storage.read("p/target#") == b"one"
    storage.delete("p/a b")
    storage.delete("p/a b")
    assert storage.stat("p/a b") is None
    assert [info.key for info in storage.list_objects("p/")] == ["p/target#"]


def test_what_is_removed_while_it_is_listed_is_left_out(storage: Storage) -> None:
    for name in "abc":
        storage.write(f"p/{name}", b"x")
    listing = storage.list_objects("p/")
    seen = [next(listing).key]
    for name in "abc":
        storage.delete(f"p/{name}")
    seen += [info.key for info in listing]
    assert set(seen) <= {"p/a", "p/b", "p/c"}
    assert list(storage.list_objects("p/")) == []


def test_a_missing_object_is_named(storage: Storage) -> None:
    storage.write("p/there", b"1")
    assert storage.stat("p/nowhere") is None
    with pytest.raises(ObjectMissing, match="p/nowhere"):
        storage.read("p/nowhere")
    with pytest.raises(ObjectMissing, match="p/nowhere"):
        storage.copy("p/nowhere", "p/x")


@pytest.mark.parametrize("size", [5, 3 * PART + 17], ids=["small", "parts"])
def test_a_lost_lease_stops_a_write_before_it_shows(storage: Storage, tmp_path: Path, size: int) -> None:
    def refuse() -> None:
        raise LeaseLost

    with pytest.raises(LeaseLost):
        storage.send(content(b"x" * size, tmp_path), "p/never", refuse)
    assert list(storage.list_objects("p/")) == []


@pytest.mark.parametrize("size", [5, 3 * PART + 17], ids=["small", "parts"])
def test_a_file_that_changes_while_it_is_sent_never_shows(storage: Storage, tmp_path: Path, size: int) -> None:
    with pytest.raises(WorkspaceError, match=r"results\.txt"):
        storage.send(content(b"x" * size, tmp_path, claimed=md5(b"before")), "p/never", nothing)
    assert list(storage.list_objects("p/")) == []


def test_many_threads_mix_nothing_up(storage: Storage, tmp_path: Path) -> None:
    bodies = {f"p/{number % 7}/{number}": os.urandom(2000 + number) for number in range(60)}
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda item: storage.send(content(item[1], tmp_path), item[0], nothing), bodies.items()))
        assert dict(zip(bodies, pool.map(storage.read, bodies), strict=True)) == bodies


def test_a_storage_that_renames_is_refused_before_any_data(tmp_path: Path) -> None:
    storage = open_storage({"BACKEND": "tests.support.storages.HashingStorage", "OPTIONS": {"location": str(tmp_path)}})
    with pytest.raises(RenamingStorage, match="kept"):
        storage.check_overwrites("p/d1/")
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({}, "BACKEND"),
        ({"BACKEND": "no.such.Storage"}, "no.such.Storage"),
        ({"BACKEND": "django.core.files.storage.FileSystemStorage", "OPTIONS": {"wrong": 1}}, "wrong"),
        ({"BACKEND": "django.core.files.storage.FileSystemStorage"}, "location"),
        ({"BACKEND": "storages.backends.s3.S3Storage", "OPTIONS": {"access_key": "a", "secret_key": "b"}}, "bucket"),
    ],
)
def test_a_storage_that_cannot_be_built_is_explained(config: dict[str, object], said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        open_storage(config)
