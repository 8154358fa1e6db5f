"""Uploads: only what was walked is sent, only with enough lease, and how far it is is told."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from crunch_tasks.errors import LeaseLost, WorkspaceError
from crunch_tasks.files.transfer import Progress
from crunch_tasks.files.upload import upload
from crunch_tasks.files.workspace import Workspace
from crunch_tasks.testing import MemoryStorage
from tests.support.faulty import FaultyStorage
from tests.support.transfers import manifest_of


def test_no_write_starts_without_enough_lease(workspace: Workspace) -> None:
    (workspace.root / "x").write_bytes(b"x")
    storage = FaultyStorage(MemoryStorage())
    asked: list[float] = []

    def may_write(timeout_s: float) -> None:
        asked.append(timeout_s)
        raise LeaseLost

    with pytest.raises(LeaseLost):
        upload(storage, {"x": "p/x"}, workspace, workspace.walk(), manifest_of(workspace), may_write=may_write)
    assert storage.storage.objects == {}
    assert asked == [storage.timeout_s]


def test_a_file_swapped_for_a_link_after_the_walk_is_not_sent(workspace: Workspace, tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"s")
    (workspace.root / "sub").mkdir()
    (workspace.root / "sub" / "x").write_bytes(b"x")
    walk, manifest = workspace.walk(), manifest_of(workspace)
    (workspace.root / "sub" / "x").unlink()
    (workspace.root / "sub" / "x").symlink_to(tmp_path / "secret")
    storage = MemoryStorage()
    with pytest.raises(WorkspaceError, match="sub/x"):
        upload(storage, {"sub/x": "p/x"}, workspace, walk, manifest)
    (workspace.root / "sub" / "x").unlink()
    (workspace.root / "sub" / "x").write_bytes(b"x")
    walk, manifest = workspace.walk(), manifest_of(workspace)
    shutil.move(workspace.root / "sub", tmp_path / "moved")
    (workspace.root / "sub").symlink_to(tmp_path / "moved")
    with pytest.raises(WorkspaceError, match="sub/x"):
        upload(storage, {"sub/x": "p/x"}, workspace, walk, manifest)
    assert storage.objects == {}


def test_a_file_that_vanished_is_named_and_the_old_object_stays(workspace: Workspace) -> None:
    (workspace.root / "x").write_bytes(b"new")
    walk, manifest = workspace.walk(), manifest_of(workspace)
    (workspace.root / "x").unlink()
    storage = MemoryStorage({"p/x": b"old"})
    with pytest.raises(WorkspaceError, match="'x'"):
        upload(storage, {"x": "p/x"}, workspace, walk, manifest)
    assert storage.objects == {"p/x": b"old"}


def test_how_far_a_transfer_is_comes_with_rate_and_remaining_time() -> None:
    assert Progress(1, 4, 30, 120, seconds=3.0).bytes_per_s == 10
    assert Progress(1, 4, 30, 120, seconds=3.0).remaining_s == 9
    assert Progress(0, 4, 0, 120).remaining_s is None
