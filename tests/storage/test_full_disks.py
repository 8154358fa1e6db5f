"""Disks that are full, here or in the storage: said with what is needed and free, and no part stays."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from crunch_tasks.errors import StorageError, WorkspaceError
from crunch_tasks.files import tree
from crunch_tasks.files.download import download
from crunch_tasks.files.opening import open_storage
from crunch_tasks.files.storage import LARGE
from crunch_tasks.files.upload import upload
from crunch_tasks.files.workspace import Workspace
from crunch_tasks.testing import MemoryStorage
from tests.support.disk import mounted_tiny_disk
from tests.support.faulty import FaultyStorage
from tests.support.transfers import INPUTS, files_of, manifest_of, sources


def test_too_small_a_disk_fails_before_the_first_byte(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    storage = FaultyStorage(MemoryStorage(INPUTS))
    monkeypatch.setattr(Workspace, "free_bytes", lambda self: 1000)
    workspace.low_water = 500
    with pytest.raises(WorkspaceError, match=r"with the 500 that stay free .* bytes are needed, 1000 are free"):
        download(storage, sources(storage), workspace)
    assert storage.reads == []
    assert files_of(workspace) == {}


def test_a_disk_that_fills_up_says_needed_and_free(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(tree, "place", full)
    with pytest.raises(WorkspaceError, match=r"is full: .* needs \d+ bytes, \d+ are free"):
        download(MemoryStorage(INPUTS), sources(MemoryStorage(INPUTS)), workspace)


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    with mounted_tiny_disk(tmp_path / "tiny") as place:
        yield place


@pytest.mark.parametrize("size", [2_000_000, LARGE + 1])
def test_a_disk_that_is_really_full_keeps_no_part_and_says_so(
    tiny_disk: Path, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    storage = MemoryStorage({"p/d1/first": b"one", "p/d1/more": b"x" * size})
    workspace = Workspace(tiny_disk, "p:d1")
    workspace.make()
    with pytest.raises(WorkspaceError, match=r"\d+ bytes are needed, \d+ are free. Make room"):
        download(storage, sources(storage), workspace)
    assert storage.calls.get("read", 0) == 0
    # Others may fill it meanwhile, and some file systems do not tell what is free.
    monkeypatch.setattr("crunch_tasks.files.download._check_space", lambda *_: None)
    with pytest.raises(WorkspaceError, match=rf"is full: 'more' needs {size} bytes, \d+ are free"):
        download(storage, sources(storage), workspace)
    assert list(workspace.partial.iterdir()) == []
    assert "more" not in files_of(workspace)


def test_a_storage_that_is_really_full_keeps_the_old_object_and_no_part(tiny_disk: Path, workspace: Workspace) -> None:
    options = {"BACKEND": "django.core.files.storage.FileSystemStorage", "OPTIONS": {"location": str(tiny_disk)}}
    storage = open_storage(options)
    storage.write("p/d1/x", b"old")
    (workspace.root / "x").write_bytes(b"y" * 2_000_000)
    with pytest.raises(StorageError, match=r"The storage is full: 'p/d1/x' needs 2000000 bytes, \d+ are free"):
        upload(storage, {"x": "p/d1/x"}, workspace, workspace.walk(), manifest_of(workspace))
    assert storage.read("p/d1/x") == b"old"
    assert [path.name for path in (tiny_disk / "p" / "d1").iterdir()] == ["x"]
