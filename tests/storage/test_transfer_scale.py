"""Many files, large files: all right, in flat memory."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from crunch_tasks.files.download import download
from crunch_tasks.files.plan import ObjectInfo
from crunch_tasks.files.storage import Storage
from crunch_tasks.files.upload import upload
from crunch_tasks.files.workspace import Workspace
from crunch_tasks.testing import MemoryStorage
from tests.support.depth import whole
from tests.support.transfers import files_of, manifest_of, md5, sources


def test_memory_stays_flat_for_a_large_file(workspace: Workspace, storage_of: Callable[[str], Storage]) -> None:
    import tracemalloc

    storage = storage_of("folder")
    size = 200 * 1024 * 1024
    with (workspace.root / "sparse").open("wb") as file:
        file.truncate(size)
    manifest = manifest_of(workspace)
    tracemalloc.start()
    upload(storage, {"sparse": "p/d1/sparse"}, workspace, workspace.walk(), manifest)
    (workspace.root / "sparse").unlink()
    download(storage, sources(storage), workspace)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20 * 1024 * 1024
    assert (workspace.root / "sparse").stat().st_size == size


def test_a_thousand_files_in_sixteen_threads_are_all_right(
    storage: Storage, workspace: Workspace, tmp_path: Path
) -> None:
    storage.parallel = 16
    bodies = {f"d{number % 7}/{number}": os.urandom(number) for number in range(1000)}
    for path, data in bodies.items():
        (workspace.root / path).parent.mkdir(exist_ok=True)
        (workspace.root / path).write_bytes(data)
    manifest = manifest_of(workspace)
    assert (
        upload(storage, {path: f"p/d1/{path}" for path in bodies}, workspace, workspace.walk(), manifest).moved == 1000
    )
    there = Workspace(tmp_path / "there", "p:d1")
    there.make()
    assert download(storage, sources(storage), there).moved == 1000
    assert files_of(there) == bodies
    assert {path: entry.md5 for path, entry in manifest_of(there).items()} == {p: md5(d) for p, d in bodies.items()}


class Sink(MemoryStorage):
    """Takes any amount and keeps its sum only."""

    def send(self, content: Any, key: str, before_commit: Callable[[], None]) -> ObjectInfo:
        digest, size = hashlib.md5(), 0
        while block := content.read(2**20):
            digest.update(block)
            size += len(block)
        return ObjectInfo(key, size, 1, digest.hexdigest(), "etag")


@pytest.mark.slow
def test_a_large_sparse_file_takes_no_memory(workspace: Workspace) -> None:
    import tracemalloc

    size = (5 if whole() else 1) * 2**30
    (workspace.root / "empty").touch()
    with (workspace.root / "sparse").open("wb") as file:
        file.truncate(size)
    tracemalloc.start()
    manifest = manifest_of(workspace)
    report = upload(Sink(), {path: f"p/d1/{path}" for path in manifest}, workspace, workspace.walk(), manifest)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (report.moved, report.bytes, manifest["empty"].md5) == (2, size, md5(b""))
    assert peak < 10 * 1024 * 1024


@pytest.mark.slow
def test_very_many_files_make_the_round_trip(workspace: Workspace, tmp_path: Path) -> None:
    folders = 100 if whole() else 10
    for folder in range(folders):
        (workspace.root / str(folder)).mkdir()
        for number in range(1000):
            (workspace.root / str(folder) / str(number)).write_bytes(b"%d" % number)
    storage = MemoryStorage()
    manifest = manifest_of(workspace)
    upload(storage, {path: f"p/d1/{path}" for path in manifest}, workspace, workspace.walk(), manifest)
    there = Workspace(tmp_path / "there", "p:d1")
    there.make()
    assert download(storage, sources(storage), there).moved == folders * 1000
    assert manifest_of(there).checksums_json() == manifest.checksums_json()
