"""What is removed of a workspace: what the storage has as it is here; everything else stays, and is told."""

from __future__ import annotations

import hashlib
import os
import re
from dataclasses import replace
from pathlib import Path

import pytest

from crunch_tasks.files import cleaning
from crunch_tasks.files.cleaning import Remains, clean_up, judge, look, published_sums, remove, why_it_stays
from crunch_tasks.files.disk import bytes_on_disk
from crunch_tasks.files.manifest import Entry, Manifest, PublishedManifest
from crunch_tasks.files.walking import FileStat, Walk
from crunch_tasks.files.workspace import Workspace, check_directory, held
from crunch_tasks.testing import MemoryStorage
from tests.support.disk import mounted_tiny_disk

FILE = FileStat(1, 2, 3, 4)


def md5(data: bytes) -> str:
    return hashlib.md5(data).hexdigest()


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    made = Workspace(tmp_path / "work", "p:d1")
    made.make()
    return made


def fill(workspace: Workspace) -> dict[str, str]:
    """Files in folders, and what was published of them."""
    files = {"a": b"one", "sub/b": b"two", "sub/deep/c": b"three", "empty": b""}
    for path, data in files.items():
        (workspace.root / path).parent.mkdir(parents=True, exist_ok=True)
        (workspace.root / path).write_bytes(data)
    workspace.write(".crunch/dataset.json", b"{}")
    (workspace.root / ".snakemake" / "metadata").mkdir(parents=True)
    return {path: md5(data) for path, data in files.items()}


def test_only_what_was_published_as_it_is_here_may_go() -> None:
    walk = Walk(dict.fromkeys(("same", "other", "new", "unread"), FILE), ("'fifo': a FIFO",))
    published = {"same": "s", "other": "o", "unread": "u", "elsewhere": "e"}
    verdict = judge(walk, published, {"same": "s", "other": "changed"})
    assert verdict.safe == {"same": FILE}
    assert verdict.stays == (
        "'other': it changed since it was published",
        "'new': it was not published",
        "'unread': it cannot be read, or is being written to",
        "'fifo': a FIFO",
    )


def test_a_workspace_that_is_wholly_published_goes_and_its_state_stays_while_it_is_needed(workspace: Workspace) -> None:
    published = fill(workspace)
    (workspace.root / "link").symlink_to("sub/b")
    os.link(workspace.root / "a", workspace.root / "second-name")
    (workspace.root / "empty-folder").mkdir()
    (workspace.partial / "half").touch()
    assert clean_up(workspace, published | {"link": md5(b"two"), "second-name": md5(b"one")}) == ""
    assert not workspace.root.exists()
    assert workspace.state.exists() and not workspace.partial.exists()


def test_the_state_of_a_settled_run_goes_with_its_last_file(workspace: Workspace) -> None:
    published = fill(workspace)
    workspace.is_settled = True
    states = workspace.state.parent.parent
    (states / ".removed-by-one-that-was-killed" / "sent").mkdir(parents=True)
    (workspace.root / "late").write_bytes(b"result")
    with workspace.lock():
        assert "'late'" in clean_up(workspace, published)
        assert (workspace.state / "trusted").is_dir()
        (workspace.root / "late").unlink()
        assert clean_up(workspace, published) == ""
        assert not workspace.root.exists() and list(states.rglob("*")) == [workspace.state.parent]
        # Whoever comes next need not wait.
        with held(workspace.state) as holder:
            assert holder is None


def test_what_changed_came_or_cannot_travel_stays_with_its_folder(workspace: Workspace, tmp_path: Path) -> None:
    published = fill(workspace)
    outside = tmp_path / "outside"
    outside.write_bytes(b"not ours")
    # Size and time as they were: the inode's own time tells.
    look(workspace, published)
    before = (workspace.root / "sub" / "b").stat()
    (workspace.root / "sub" / "b").write_bytes(b"TWO")
    os.utime(workspace.root / "sub" / "b", ns=(before.st_atime_ns, before.st_mtime_ns))
    (workspace.root / "late").mkdir()
    (workspace.root / "late" / "result").write_bytes(b"a day of work")
    (workspace.root / "out").symlink_to(outside)
    os.mkfifo(workspace.root / "fifo")

    said = clean_up(workspace, published)

    left = {path.relative_to(workspace.root).as_posix() for path in workspace.root.rglob("*") if not path.is_dir()}
    assert left == {"sub/b", "late/result", "out", "fifo", ".crunch/dataset.json"}
    assert outside.read_bytes() == b"not ours"
    assert said.startswith(f"Not removed from {workspace.root}: ")
    for words in (
        "'sub/b': it changed",
        "'late/result': it was not published",
        "'out': a link that leads out",
        "'fifo': a FIFO",
    ):
        assert words in said


@pytest.mark.parametrize("how", ["written", "replaced", "a link", "a folder's link"])
def test_what_changes_between_the_look_and_the_removal_stays(workspace: Workspace, tmp_path: Path, how: str) -> None:
    verdict = look(workspace, fill(workspace))
    target = workspace.root / "sub" / "b"
    other = tmp_path / "other"
    other.mkdir()
    (other / "b").write_bytes(b"precious")
    if how == "written":
        target.write_bytes(b"more than it was")
    elif how == "replaced":
        target.with_name("new").write_bytes(b"TWO")
        target.with_name("new").rename(target)
    elif how == "a link":
        target.unlink()
        target.symlink_to(other / "b")
    else:
        target.parent.rename(workspace.root / "moved")
        target.parent.symlink_to(other)
    stays = remove(workspace, verdict)
    assert any("'sub/b'" in sentence for sentence in stays)
    assert (other / "b").read_bytes() == b"precious"
    assert target.exists()
    assert not (workspace.root / "a").exists()


def test_what_comes_during_the_removal_stays(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    published = fill(workspace)

    def comes(_point: object) -> None:
        (workspace.root / "late").write_bytes(b"result")

    monkeypatch.setattr(cleaning, "reached", comes)
    assert "something is writing" in clean_up(workspace, published)
    assert (workspace.root / "late").read_bytes() == b"result"


def test_many_that_stay_are_counted(workspace: Workspace) -> None:
    for number in range(9):
        (workspace.root / str(number)).touch()
    assert clean_up(workspace, {}).endswith("; and 4 more")


DATASET = {"id": 1, "base_file_path": "p/d", "state": "completed", "manifest_sha256": "x"}
WAITS = Remains(Path("/w/p/d"), Path("/w/.state/p/d"), {"dataset": 1, "base_path": "p/d", "site": "s"}, 0, False, True)

STAYS = {
    "undelivered": (replace(WAITS, undelivered=2), DATASET, "2 updates are not delivered yet. Run `crunch sync` first"),
    "left by a dead command": (replace(WAITS, is_unfinished=True), DATASET, "A command died at work on it"),
    "running": (WAITS, DATASET | {"state": "running"}, "It is running"),
    "running, no files": (replace(WAITS, has_files=False), DATASET | {"state": "running"}, "It is running"),
    "failed": (WAITS, DATASET | {"state": "failed"}, "It failed, .* remove /w/p/d and /w/.state/p/d by hand"),
    "unprocessed": (WAITS, DATASET | {"state": "unprocessed"}, "not processed yet"),
    "unknown": (WAITS, None, "does not know this dataset"),
    "never bound": (replace(WAITS, bound=None), DATASET, "another dataset's"),
    "another id": (WAITS, DATASET | {"id": 2}, "another dataset's"),
    "another path": (WAITS, DATASET | {"base_file_path": "p/e"}, "another dataset's"),
    "by an old client": (WAITS, DATASET | {"manifest_sha256": ""}, "without a manifest"),
    "completed": (WAITS, DATASET, "^$"),
    "failed, no files": (replace(WAITS, has_files=False), DATASET | {"state": "failed"}, "^$"),
    "unknown, no files": (replace(WAITS, has_files=False), None, "^$"),
}


@pytest.mark.parametrize("case", STAYS)
def test_why_a_workspace_stays_whatever_its_files_are(case: str) -> None:
    remains, dataset, sentence = STAYS[case]
    assert re.search(sentence, why_it_stays(remains, dataset))


def test_published_is_what_the_storage_still_has() -> None:
    storage = MemoryStorage()
    files = {"kept": b"one", "lost": b"two", "replaced": b"three", "staged": b"four"}
    entries = {path: Entry(md5(data), len(data), 1) for path, data in files.items()}
    manifest = PublishedManifest(3, 1, Manifest(entries), modified=("staged",)).to_bytes()
    storage.write("p/d/.crunch/manifest-3.json", manifest)
    storage.write("p/d/kept", b"one")
    storage.write("p/d/replaced", b"THREE")
    # Committed and not promoted yet.
    storage.write("p/d/staged", b"old bytes")
    storage.write("p/d/.crunch/attempts/3/files/staged", b"four")
    dataset = DATASET | {"manifest_sha256": hashlib.sha256(manifest).hexdigest(), "manifest_fence": 3}
    assert published_sums(storage, dataset) == {path: md5(files[path]) for path in ("kept", "staged")}


def test_what_is_taken_of_the_disk_is_counted_without_following_links(tmp_path: Path) -> None:
    (tmp_path / "here" / "sub").mkdir(parents=True)
    (tmp_path / "large").write_bytes(b"x" * 1_000_000)
    (tmp_path / "here" / "sub" / "file").write_bytes(b"x" * 100_000)
    (tmp_path / "here" / "link").symlink_to(tmp_path / "large")
    assert 100_000 <= bytes_on_disk(tmp_path / "here", tmp_path / "none") < 500_000


def test_a_disk_without_a_free_byte_can_be_cleaned(tmp_path: Path) -> None:
    with mounted_tiny_disk(tmp_path / "tiny") as place:
        workspace = Workspace(place, "p:d1")
        with workspace.lock():
            published = fill(workspace)
        with pytest.raises(OSError, match="No space left"), (place / "filler").open("wb", buffering=0) as filler:
            while True:
                filler.write(b"x" * 65_536)
        check_directory(place)
        with held(workspace.state) as holder:
            assert holder is None
            assert clean_up(workspace, published) == ""
        assert not workspace.root.exists()
