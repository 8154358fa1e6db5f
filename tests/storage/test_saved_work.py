"""What a stopped workflow had finished: saved as far as there is time, found by those from the same start only."""

from __future__ import annotations

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
UNFINISHED = {"half": b"h"}


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
) -> SavedWork | None:
    return saved_work.save(
        storage,
        "p/d",
        workspace,
        fence=fence,
        start=start,
        inputs=setup,
        is_finished=lambda path: path in FINISHED,
        may_write=lambda _: None,
        check=check,
    )


def test_finished_files_come_back_elsewhere_with_their_times(storage: FaultyStorage, tmp_path: Path) -> None:
    here, setup = workspace_at(tmp_path / "here", FINISHED | UNFINISHED)
    save(storage, here, setup)
    there, _ = workspace_at(tmp_path / "there", {})
    found = saved_work.find(storage, "p/d", "start")
    assert found is not None
    download(storage, saved_work.sources(found, "p/d"), there)
    for path, content in FINISHED.items():
        assert (there.root / path).read_bytes() == content
        assert (there.root / path).stat().st_mtime_ns == (here.root / path).stat().st_mtime_ns
    assert not (there.root / "half").exists()


def test_it_is_no_input_and_only_for_the_same_start(storage: FaultyStorage, tmp_path: Path) -> None:
    save(storage, *workspace_at(tmp_path, FINISHED))
    assert list(publication.inputs(storage, "p/d").files) == ["input"]
    assert saved_work.find(storage, "p/d", "another start") is None
    assert saved_work.find(storage, "p/d", "start", after=1) is None


@pytest.mark.parametrize("time_for", [0, 1, 2])
def test_what_arrived_in_time_is_saved_the_small_files_first(
    storage: FaultyStorage, tmp_path: Path, time_for: int
) -> None:
    def check() -> None:
        if sum("/saved/" in key for _, key in storage.writes) >= time_for:
            raise saved_work.TimeIsUpError

    saved = save(storage, *workspace_at(tmp_path, FINISHED), check=check)
    found = saved_work.find(storage, "p/d", "start")
    assert saved == found
    names = set(found.files) if found else set()
    # Others may be on their way when the time is up.
    assert len(names) >= time_for and (time_for or not names) and "large" not in names


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
