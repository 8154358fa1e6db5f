"""What a stopped workflow had finished: saved as far as there is time, found by those from the same start only."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from crunch_tasks.contract import attempt_folder
from crunch_tasks.files import publication, saved_work
from crunch_tasks.files.checksums import compute_manifest
from crunch_tasks.files.download import download
from crunch_tasks.files.manifest import Manifest, SavedWork
from crunch_tasks.files.storage import LARGE, Storage
from crunch_tasks.files.workspace import Workspace
from crunch_tasks.testing import MemoryStorage
from tests.support.faulty import FaultyStorage

FINISHED = {"done/a": b"a", "done/b": b"b" * 100, "large": b"L" * (LARGE + 1)}


@pytest.fixture
def storage() -> FaultyStorage:
    return FaultyStorage(MemoryStorage({"p/d/input": b"precious"}))


def workspace_at(folder: Path, files: Mapping[str, bytes]) -> tuple[Workspace, Manifest]:
    """A workspace with the input and these files, and what Setup noted of it."""
    workspace = Workspace(folder, "p:d")
    workspace.make()
    (workspace.root / "input").write_bytes(b"precious")
    setup = compute_manifest(workspace.root, workspace.walk(), workspace.hashes)
    for path, content in files.items():
        (workspace.root / path).parent.mkdir(parents=True, exist_ok=True)
        (workspace.root / path).write_bytes(content)
    return workspace, setup


def save(
    storage: Storage,
    workspace: Workspace,
    setup: Manifest,
    *,
    fence: int = 1,
    start: str = "start",
    check: Callable[[], None] = lambda: None,
    whole: float = math.inf,
) -> SavedWork | None:
    return saved_work.save(
        storage,
        "p/d",
        workspace,
        fence=fence,
        start=start,
        inputs=setup,
        whole_before=lambda moment: min(moment, whole),
        may_write=lambda _: None,
        check=check,
    )


def test_whole_files_come_back_elsewhere_with_their_times(storage: FaultyStorage, tmp_path: Path) -> None:
    here, setup = workspace_at(tmp_path / "here", FINISHED)
    (here.root / "link").symlink_to("done/a")
    # Longer than a file's time may be behind the clock.
    time.sleep(0.05)
    moment = time.time()
    # A busy machine's files may be some ticks behind; a job has to start before it writes.
    time.sleep(0.05)
    # Begun after the moment, though it says otherwise, or leads to what is older.
    (here.root / "half").write_bytes(b"h")
    os.utime(here.root / "half", (1, 1))
    (here.root / "late link").symlink_to("done/a")
    save(storage, here, setup, whole=moment)
    there, _ = workspace_at(tmp_path / "there", {})
    found = saved_work.find(storage, "p/d", "start")
    assert found is not None
    download(storage, saved_work.sources(found, "p/d"), there)
    for path, content in {**FINISHED, "link": b"a"}.items():
        assert (there.root / path).read_bytes() == content
        assert (there.root / path).stat().st_mtime_ns == (here.root / path).stat().st_mtime_ns
    assert not (there.root / "half").exists() and not (there.root / "late link").exists()


def test_it_is_no_input_and_only_for_the_same_start(storage: FaultyStorage, tmp_path: Path) -> None:
    save(storage, *workspace_at(tmp_path, FINISHED))
    assert list(publication.inputs(storage, "p/d").files) == ["input"]
    assert saved_work.find(storage, "p/d", "another start") is None
    assert saved_work.find(storage, "p/d", "start", after=1) is None


@pytest.mark.parametrize("time_for", [0, 1, 2])
def test_what_was_there_before_the_first_that_did_not_arrive_in_time_is_saved(
    storage: FaultyStorage, tmp_path: Path, time_for: int
) -> None:
    storage.parallel = 1
    workspace, setup = workspace_at(tmp_path, {})
    for name in ("c", "b", "a"):
        (workspace.root / name).write_bytes(name.encode())
        # So far apart that the file system's clock tells them apart.
        time.sleep(0.05)

    def check() -> None:
        if sum("/saved/" in key for _, key in storage.writes) >= time_for:
            raise saved_work.TimeIsUpError

    saved = save(storage, workspace, setup, check=check)
    assert saved == saved_work.find(storage, "p/d", "start")
    assert set(saved.files if saved else ()) == set(["c", "b", "a"][:time_for])


def test_what_an_earlier_attempt_saved_is_not_sent_again(storage: FaultyStorage, tmp_path: Path) -> None:
    first, setup = workspace_at(tmp_path / "first", {"done/a": b"a"})
    save(storage, first, setup, fence=1)
    second, setup = workspace_at(tmp_path / "second", {})
    found = saved_work.find(storage, "p/d", "start")
    assert found is not None
    download(storage, saved_work.sources(found, "p/d"), second)
    (second.root / "large").write_bytes(FINISHED["large"])
    storage.writes.clear()
    saved = save(storage, second, setup, fence=2)
    assert saved is not None and saved.places == {"done/a": 1, "large": 2}
    assert [key for _, key in storage.writes if "/saved/" in key] == [f"p/d/{attempt_folder(2)}/saved/large"]
    assert saved_work.find(storage, "p/d", "start") == saved


@pytest.mark.parametrize("becomes", [b"changed!", None])
def test_nothing_is_saved_of_a_workflow_that_changed_or_removed_an_input(
    storage: FaultyStorage, tmp_path: Path, becomes: bytes | None
) -> None:
    workspace, setup = workspace_at(tmp_path, FINISHED)
    (workspace.root / "input").unlink()
    if becomes is not None:
        (workspace.root / "input").write_bytes(becomes)
    assert save(storage, workspace, setup) is None
    assert storage.writes == []


def test_a_stop_that_has_time_for_nothing_keeps_what_was_saved_before(storage: FaultyStorage, tmp_path: Path) -> None:
    save(storage, *workspace_at(tmp_path / "first", {"done/a": b"a"}), fence=1)
    second, setup = workspace_at(tmp_path / "second", {})
    found = saved_work.find(storage, "p/d", "start")
    assert found is not None
    download(storage, saved_work.sources(found, "p/d"), second)
    record = second.root / ".snakemake" / "metadata" / "record"
    record.parent.mkdir(parents=True)
    record.write_bytes(b"{}")

    def check() -> None:
        raise saved_work.TimeIsUpError

    saved = save(storage, second, setup, fence=2, check=check)
    assert saved is not None and saved.places == {"done/a": 1}


def test_a_damaged_list_is_no_help_and_no_harm(storage: FaultyStorage, tmp_path: Path) -> None:
    saved = save(storage, *workspace_at(tmp_path, {"done/a": b"a"}), fence=1)
    storage.write(f"p/d/{attempt_folder(2)}/saved.json", b"{")
    assert saved_work.find(storage, "p/d", "start") == saved
