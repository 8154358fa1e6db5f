"""A storage that is a folder: nothing outside of it is touched, and what is no plain file hangs nobody."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from crunch_tasks.errors import (
    ObjectMissing,
    StorageError,
)
from crunch_tasks.files.opening import open_storage
from crunch_tasks.files.storage import Storage


@pytest.mark.parametrize("key", ["/etc/passwd", "../outside", "p/../../outside", "p//x", "p/./x", "back\\slash", ""])
def test_a_folder_refuses_keys_that_lead_out(storage_of: Callable[[str], Storage], key: str) -> None:
    storage = storage_of("folder")
    storage.write("p/x", b"1")
    for work in (lambda: storage.read(key), lambda: storage.write(key, b"2"), lambda: storage.delete(key)):
        with pytest.raises(StorageError):
            work()


def test_a_folder_follows_links_only_inside_itself(tmp_path: Path) -> None:
    root = tmp_path / "root"
    (root / "p").mkdir(parents=True)
    (tmp_path / "secret").write_text("secret")
    (root / "p" / "file").write_text("inside")
    (root / "p" / "link").symlink_to("file")
    storage = open_storage(
        {"BACKEND": "django.core.files.storage.FileSystemStorage", "OPTIONS": {"location": str(root)}}
    )
    assert {info.key for info in storage.list_objects("p/")} == {"p/file", "p/link"}
    assert storage.read("p/link") == b"inside"
    (root / "p" / "out").symlink_to(tmp_path / "secret")
    (root / "q").symlink_to(tmp_path)
    for work in (
        lambda: list(storage.list_objects("p/")),
        lambda: storage.read("p/out"),
        lambda: storage.read("q/secret"),
        lambda: storage.write("q/written", b""),
        lambda: storage.delete("q/secret"),
    ):
        with pytest.raises(StorageError):
            work()
    assert (tmp_path / "secret").exists()


def test_a_fifo_in_a_storage_folder_hangs_nobody(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    storage = open_storage(
        {"BACKEND": "django.core.files.storage.FileSystemStorage", "OPTIONS": {"location": str(tmp_path)}}
    )
    with pytest.raises(StorageError, match="fifo"):
        storage.read("fifo")
    with pytest.raises(StorageError, match="fifo"):
        list(storage.list_objects(""))


def test_what_a_killed_writer_left_in_a_folder_is_not_listed(tmp_path: Path) -> None:
    (tmp_path / "p").mkdir()
    (tmp_path / "p" / ".crunch-part-0123456789abcdef").write_bytes(b"half")
    storage = open_storage(
        {"BACKEND": "django.core.files.storage.FileSystemStorage", "OPTIONS": {"location": str(tmp_path)}}
    )
    assert list(storage.list_objects("p/")) == []
    assert storage.stat("p/.crunch-part-0123456789abcdef") is None


def test_a_link_to_nothing_is_told(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("nowhere")
    storage = open_storage(
        {"BACKEND": "django.core.files.storage.FileSystemStorage", "OPTIONS": {"location": str(tmp_path)}}
    )
    with pytest.raises(ObjectMissing, match="link"):
        list(storage.list_objects(""))
