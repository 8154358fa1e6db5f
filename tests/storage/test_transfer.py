"""Downloads and uploads: right or not at all, nothing twice, and every failure says which object."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from crunch_tasks.errors import (
    Cancelled,
    LeaseLost,
    NamesRefused,
    ObjectMissing,
    StorageError,
    TransferError,
    WorkspaceError,
)
from crunch_tasks.files import publication, transfer, tree
from crunch_tasks.files.checksums import compute_manifest
from crunch_tasks.files.download import download
from crunch_tasks.files.manifest import Manifest
from crunch_tasks.files.opening import open_storage
from crunch_tasks.files.plan import ObjectInfo, Source
from crunch_tasks.files.storage import LARGE, Storage
from crunch_tasks.files.transfer import Progress
from crunch_tasks.files.upload import upload
from crunch_tasks.files.workspace import Workspace
from crunch_tasks.testing import MemoryStorage
from tests.support.disk import mounted_tiny_disk
from tests.support.faulty import FaultyStorage, Killed, Rule

INPUTS = {"p/d1/a b": b"one", "p/d1/sub/sample#1": b"two" * 1000, "p/d1/empty": b"", "p/d1/ä.gz": b"\x1f\x8bthree"}


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transfer, "FIRST_PAUSE_S", 0.0)


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    made = Workspace(tmp_path / "work", "p:d1")
    made.make()
    return made


def md5(data: bytes) -> str:
    return hashlib.md5(data).hexdigest()


def fill(storage: Storage) -> None:
    for key, data in INPUTS.items():
        storage.write(key, data)


def sources(storage: Storage) -> dict[str, Source]:
    return dict(publication.inputs(storage, "p/d1").files)


def files_of(workspace: Workspace) -> dict[str, bytes]:
    return {path: (workspace.root / path).read_bytes() for path in workspace.walk().files}


EXPECTED = {key.removeprefix("p/d1/"): data for key, data in INPUTS.items()}


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


def test_a_cancel_stops_a_download(workspace: Workspace) -> None:
    def cancelled() -> None:
        raise Cancelled

    with pytest.raises(Cancelled):
        download(MemoryStorage(INPUTS), sources(MemoryStorage(INPUTS)), workspace, check=cancelled)
    assert files_of(workspace) == {}


def manifest_of(workspace: Workspace) -> Manifest:
    return compute_manifest(workspace.root, workspace.walk(), workspace.hashes)


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


class Waiting(MemoryStorage):
    """Answers when it is told to."""

    def __init__(self, objects: dict[str, bytes]) -> None:
        super().__init__(objects)
        self.answers = threading.Event()
        self.asked = threading.Event()
        self.threads: list[threading.Thread] = []

    def wait(self) -> None:
        self.threads.append(threading.current_thread())
        self.asked.set()
        self.answers.wait()

    def read(self, key: str) -> bytes:
        data = super().read(key)
        self.wait()
        return data

    def send(self, content: Any, key: str, before_commit: Callable[[], None]) -> ObjectInfo:
        self.wait()
        return super().send(content, key, before_commit)


@contextlib.contextmanager
def interrupted(storage: Waiting) -> Iterator[None]:
    """An interrupt of the main thread when the storage was asked, which answers after the main thread has gone on."""

    def interrupt() -> None:
        storage.asked.wait()
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt).start()
    with pytest.raises(KeyboardInterrupt):
        yield
    assert not storage.answers.is_set()
    storage.answers.set()
    for thread in storage.threads:
        thread.join()


def test_an_interrupt_waits_for_no_storage_and_nothing_is_placed_after_it(workspace: Workspace) -> None:
    storage = Waiting({f"p/d1/{number}": b"x" for number in range(8)})
    listed = sources(MemoryStorage(storage.objects))
    with interrupted(storage):
        download(storage, listed, workspace)
    assert files_of(workspace) == {}
    assert list(workspace.partial.iterdir()) == []


def test_after_an_interrupt_nothing_is_sent(workspace: Workspace) -> None:
    (workspace.root / "x").write_bytes(b"x" * (LARGE + 1))
    storage = Waiting({})
    with interrupted(storage):
        upload(storage, {"x": "p/x"}, workspace, workspace.walk(), manifest_of(workspace))
    assert storage.objects == {}


def test_a_process_ends_without_its_hanging_transfers() -> None:
    code = """
import threading
from crunch_tasks.files.parallel import in_parallel
def hang(item, check):
    asked.set()
    threading.Event().wait()
def interrupt():
    asked.wait()
    __import__("os").kill(__import__("os").getpid(), __import__("signal").SIGTERM)
def stop(*_):
    raise SystemExit(143)
asked = threading.Event()
__import__("signal").signal(__import__("signal").SIGTERM, stop)
threading.Thread(target=interrupt).start()
in_parallel(hang, [1, 2, 3], 2, lambda: None)
"""
    assert subprocess.run([sys.executable, "-c", code], timeout=60, check=False).returncode == 143


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


def test_whatever_a_killed_run_left_among_its_partial_files_goes(workspace: Workspace) -> None:
    (workspace.partial / "small-0").write_bytes(b"half of it")
    (workspace.partial / "folder").mkdir()
    (workspace.partial / "folder" / "caf\u00e9").touch()
    storage = MemoryStorage(INPUTS)
    download(storage, sources(storage), workspace)
    assert files_of(workspace) == EXPECTED
    assert list(workspace.partial.iterdir()) == []


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


class Sink(MemoryStorage):
    """Takes any amount and keeps its sum only."""

    def send(self, content: Any, key: str, before_commit: Callable[[], None]) -> ObjectInfo:
        digest, size = hashlib.md5(), 0
        while block := content.read(2**20):
            digest.update(block)
            size += len(block)
        return ObjectInfo(key, size, 1, digest.hexdigest(), "etag")


@pytest.mark.slow
def test_a_sparse_file_of_five_gigabytes_takes_no_memory(workspace: Workspace) -> None:
    import tracemalloc

    size = 5 * 2**30
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
def test_a_hundred_thousand_files_make_the_round_trip(workspace: Workspace, tmp_path: Path) -> None:
    for folder in range(100):
        (workspace.root / str(folder)).mkdir()
        for number in range(1000):
            (workspace.root / str(folder) / str(number)).write_bytes(b"%d" % number)
    storage = MemoryStorage()
    manifest = manifest_of(workspace)
    upload(storage, {path: f"p/d1/{path}" for path in manifest}, workspace, workspace.walk(), manifest)
    there = Workspace(tmp_path / "there", "p:d1")
    there.make()
    assert download(storage, sources(storage), there).moved == 100_000
    assert manifest_of(there).checksums_json() == manifest.checksums_json()


def test_how_far_a_transfer_is_comes_with_rate_and_remaining_time() -> None:
    assert Progress(1, 4, 30, 120, seconds=3.0).bytes_per_s == 10
    assert Progress(1, 4, 30, 120, seconds=3.0).remaining_s == 9
    assert Progress(0, 4, 0, 120).remaining_s is None
