"""Downloads: right or not at all, nothing twice, and every failure says which object."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from crunch_tasks.errors import NamesRefused, ObjectMissing, TransferError
from crunch_tasks.files import publication
from crunch_tasks.files.download import download
from crunch_tasks.files.plan import ObjectInfo, Source
from crunch_tasks.files.storage import Storage
from crunch_tasks.files.transfer import Progress
from crunch_tasks.files.workspace import Workspace
from crunch_tasks.testing import MemoryStorage
from tests.support.faulty import FaultyStorage, Killed, Rule
from tests.support.transfers import EXPECTED, INPUTS, files_of, fill, md5, sources


def test_a_download_brings_every_byte_and_time_and_a_second_one_nothing(storage: Storage, workspace: Workspace) -> None:
    fill(storage)
    watched = FaultyStorage(storage)
    seen: list[Progress] = []
    report = download(watched, sources(storage), workspace, progress=seen.append)
    assert files_of(workspace) == EXPECTED
    assert (report.moved, report.bytes, report.skipped) == (4, sum(map(len, INPUTS.values())), 0)
    assert (seen[-1].files_done, seen[-1].bytes_done) == (4, report.bytes)
    for path, source in sources(storage).items():
        if source.mtime_ns is not None:
            assert (workspace.root / path).stat().st_mtime_ns == source.mtime_ns
    # Another process, the same folders.
    again = Workspace(workspace.directory, workspace.slug)
    watched.reads.clear()
    report = download(watched, sources(storage), again)
    assert (report.moved, report.skipped, watched.reads) == (0, 4, [])


def test_only_what_differs_is_fetched(storage: Storage, workspace: Workspace) -> None:
    fill(storage)
    download(storage, sources(storage), workspace)
    (workspace.root / "a b").write_bytes(b"ONE")
    (workspace.root / "empty").unlink()
    report = download(storage, sources(storage), workspace)
    assert (report.moved, report.skipped) == (2, 2)
    assert files_of(workspace) == EXPECTED


def test_a_download_restores_times_that_a_workflow_touched(workspace: Workspace) -> None:
    storage = MemoryStorage(INPUTS)
    download(storage, sources(storage), workspace)
    os.utime(workspace.root / "a b")
    assert download(storage, sources(storage), workspace).moved == 0
    assert (workspace.root / "a b").stat().st_mtime_ns == sources(storage)["a b"].mtime_ns


@pytest.mark.parametrize("nth", [1, 2, 3, 4])
def test_killed_in_a_download_the_next_fetches_only_the_rest(workspace: Workspace, nth: int) -> None:
    storage = FaultyStorage(MemoryStorage(INPUTS))
    storage.storage.parallel = 1
    storage.rules = [Rule("read", Killed(), nth=nth)]
    with pytest.raises(Killed):
        download(storage, sources(storage), workspace)
    assert files_of(workspace).items() <= EXPECTED.items()
    storage.rules = []
    storage.reads.clear()
    again = Workspace(workspace.directory, workspace.slug)
    download(storage, sources(storage), again)
    assert files_of(again) == EXPECTED
    assert len([key for key in storage.reads if "/.crunch/" not in key]) == len(INPUTS) - (nth - 1)
    assert list(again.partial.iterdir()) == []


@pytest.mark.parametrize(
    "spoil", [lambda data: data[:-1], lambda data: bytes([data[0] ^ 1]) + data[1:]], ids=["cut short", "one bit"]
)
def test_spoilt_bytes_are_noticed_retried_and_then_named(workspace: Workspace, spoil: Callable[[bytes], bytes]) -> None:
    storage = FaultyStorage(MemoryStorage(INPUTS))
    storage.rules = [Rule("read", spoil, key="sample#1", times=2)]
    download(storage, sources(storage), workspace)
    assert files_of(workspace) == EXPECTED
    (workspace.root / "sub/sample#1").unlink()
    storage.rules = [Rule("read", spoil, key="sample#1")]
    with pytest.raises(TransferError, match="sub/sample#1"):
        download(storage, sources(storage), workspace)
    assert "sub/sample#1" not in files_of(workspace)


def test_a_wrong_sum_is_told_with_both_sums(workspace: Workspace) -> None:
    storage = FaultyStorage(MemoryStorage({"p/d1/x": b"right"}))
    storage.rules = [Rule("read", lambda data: b"wrong")]
    with pytest.raises(TransferError) as caught:
        download(storage, sources(storage), workspace)
    for data in (b"right", b"wrong"):
        assert hashlib.md5(data).hexdigest() in str(caught.value)


def test_an_earlier_manifests_sum_is_checked_where_the_storage_knows_none(workspace: Workspace) -> None:
    storage = MemoryStorage({"p/d1/x": b"flipped"}, tells_sums=False)
    known = Source("p/d1/x", 7, hashlib.md5(b"correct").hexdigest())
    with pytest.raises(TransferError, match="p/d1/x"):
        download(storage, {"x": known}, workspace)


def test_transient_errors_are_retried_and_lasting_ones_are_not(workspace: Workspace) -> None:
    storage = FaultyStorage(MemoryStorage(INPUTS))
    storage.rules = [Rule("read", TransferError("reset"), key="a b", times=3)]
    download(storage, sources(storage), workspace)
    gone = Rule("read", ObjectMissing("'p/d1/a b' vanished"), key="a b")
    storage.rules = [gone]
    (workspace.root / "a b").unlink()
    with pytest.raises(ObjectMissing, match="a b"):
        download(storage, sources(storage), workspace)
    assert gone.seen == 1


def test_bad_names_are_refused_together_before_a_byte_is_written(workspace: Workspace) -> None:
    names = ["../up", "a//b", "back\\slash", "./dot", "new\nline", "file", "file/child"]
    storage = FaultyStorage(MemoryStorage({f"p/d1/{name}": b"x" for name in names}))
    with pytest.raises(NamesRefused) as caught:
        publication.inputs(storage, "p/d1")
    assert len(caught.value.problems) == 6
    assert storage.reads == []


def test_names_that_the_local_file_system_folds_are_refused(workspace: Workspace) -> None:
    storage = FaultyStorage(MemoryStorage({"p/d1/Results": b"1", "p/d1/results": b"2"}))
    workspace.folds = True
    with pytest.raises(NamesRefused, match="one name"):
        download(storage, sources(storage), workspace)
    assert storage.reads == []
    workspace.folds = False
    download(storage, sources(storage), workspace)
    assert files_of(workspace) == {"Results": b"1", "results": b"2"}


def test_links_that_a_workflow_left_are_replaced_not_followed(workspace: Workspace, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "a b").write_bytes(b"safe")
    (workspace.root / "a b").symlink_to(outside / "a b")
    (workspace.root / "sub").symlink_to(outside)
    (workspace.root / "empty").mkdir()
    (workspace.root / "empty" / "x").touch()
    storage = MemoryStorage(INPUTS)
    download(storage, sources(storage), workspace)
    assert files_of(workspace) == EXPECTED
    assert {path.name: path.read_bytes() for path in outside.iterdir()} == {"a b": b"safe"}


def test_an_object_that_changes_between_listing_and_reading_is_noticed(workspace: Workspace) -> None:
    storage = MemoryStorage(INPUTS, tells_sums=False)
    listed = sources(storage)
    storage.write("p/d1/a b", b"ONE")
    with pytest.raises(TransferError, match=r"p/d1/a b.*changed"):
        download(storage, listed, workspace)


def test_where_sums_are_in_doubt_an_object_that_changed_is_noticed_all_the_same(workspace: Workspace) -> None:
    class Encrypted(MemoryStorage):
        """Its ETags look like MD5 sums and are none."""

        def tells_md5(self, key: str) -> bool:
            return False

        def _info(self, key: str) -> ObjectInfo:
            etag = md5(b"encrypted " + self.objects[key])
            return replace(super()._info(key), md5=etag, etag=etag)

    storage = Encrypted({"p/d1/x": b"bytes"})
    listed = sources(storage)
    download(storage, listed, workspace)
    assert files_of(workspace) == {"x": b"bytes"}
    (workspace.root / "x").unlink()
    storage.write("p/d1/x", b"OTHER")
    with pytest.raises(TransferError, match=r"p/d1/x.*changed"):
        download(storage, listed, workspace)
    assert files_of(workspace) == {}


def test_whatever_a_killed_run_left_among_its_partial_files_goes(workspace: Workspace) -> None:
    (workspace.partial / ".0.crunch-tmp").write_bytes(b"half of it")
    (workspace.partial / "folder").mkdir()
    (workspace.partial / "folder" / "caf\u00e9").touch()
    storage = MemoryStorage(INPUTS)
    download(storage, sources(storage), workspace)
    assert files_of(workspace) == EXPECTED
    assert list(workspace.partial.iterdir()) == []
