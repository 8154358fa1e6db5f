"""A workspace and its state: walked without following links, locked, bound, hashed once, beyond a workflow's reach."""

from __future__ import annotations

import errno
import fcntl
import itertools
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crunch_tasks import durable
from crunch_tasks.durable import write_durably
from crunch_tasks.errors import NamesRefused, WorkspaceError
from crunch_tasks.files import checksums, mounts, tree
from crunch_tasks.files.checksums import HashCache, compute_manifest, fingerprint, hash_file
from crunch_tasks.files.known import KnownObjects
from crunch_tasks.files.plan import ObjectInfo
from crunch_tasks.files.workspace import Workspace, check_directory, held


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    made = Workspace(tmp_path / "work", "p:d1")
    made.make()
    return made


# --- walking ---------------------------------------------------------------------------------------------------------


def test_a_walk_finds_files_and_links_to_files_and_reports_all_else(workspace: Workspace, tmp_path: Path) -> None:
    root = workspace.root
    (root / "sub").mkdir()
    (root / "sub" / "file").write_bytes(b"data")
    (root / ".hidden").touch()
    for name in (".crunch", ".snakemake"):
        (root / name).mkdir()
        (root / name / "internal").touch()
    (root / "link").symlink_to("sub/file")
    (root / "chain").symlink_to("link")
    (tmp_path / "secret").touch()
    refused = {
        "out": tmp_path / "secret",
        "up": "../../../secret",
        "folder": "sub",
        "dangling": "nowhere",
        "loop": "loop",
        "state": workspace.state,
        "device": "/dev/null",
    }
    for name, target in refused.items():
        (root / name).symlink_to(target)
    os.mkfifo(root / "fifo")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(root / "socket"))
    walk = workspace.walk()
    assert list(walk.files) == [".hidden", "chain", "link", "sub/file"]
    assert (walk.files["chain"].target, walk.files["chain"].size) == ("sub/file", 4)
    assert sorted(sentence.split("'")[1] for sentence in walk.refused) == sorted([*refused, "fifo", "socket"])


def test_a_walked_file_is_opened_only_while_it_is_that_file(workspace: Workspace, tmp_path: Path) -> None:
    path = workspace.root / "x"
    (tmp_path / "other").write_bytes(b"data")
    for replace in (
        lambda: path.symlink_to(tmp_path / "other"),
        lambda: os.mkfifo(path),
        path.mkdir,
        lambda: path.write_bytes(b"atad"),
        lambda: None,
    ):
        path.write_bytes(b"data")
        walked = workspace.walk().files["x"]
        path.unlink()
        replace()
        with pytest.raises(WorkspaceError, match="'x'"):
            tree.open_file(workspace.root, "x", walked)
        if path.is_dir():
            path.rmdir()
        else:
            path.unlink(missing_ok=True)


def test_leftovers_go_and_inputs_and_internal_files_stay(workspace: Workspace, tmp_path: Path) -> None:
    root = workspace.root
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "file").touch()
    for path in ("keep/in/file", "keep/leftover", "gone/deep/file", ".crunch/x", ".snakemake/y"):
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).touch()
    (root / "link").symlink_to(tmp_path / "outside")
    os.mkfifo(root / "keep" / "fifo")
    assert workspace.remove_leftovers({"keep/in/file"}) == ["gone", "keep/fifo", "keep/leftover", "link"]
    assert sorted(path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()) == [
        ".crunch/x",
        ".snakemake/y",
        "keep/in/file",
    ]
    assert (tmp_path / "outside" / "file").exists()


# --- hashing ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    calls: list[int] = []

    def counting(*arguments: object) -> tuple[str, str]:
        calls.append(1)
        return hash_file(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(checksums, "hash_file", counting)
    # As if every file were older than a tick of the file system's clock.
    monkeypatch.setattr(checksums, "_CLOCK_TICK_NS", -1)
    return calls


def manifest(workspace: Workspace) -> dict[str, str]:
    found = compute_manifest(workspace.root, workspace.walk(), HashCache(workspace.state / "hashes.json"))
    return {path: entry.md5 for path, entry in found.items()}


def test_an_unchanged_file_is_hashed_once_a_changed_one_again(workspace: Workspace, hashed: list[int]) -> None:
    for name in "abc":
        (workspace.root / name).write_bytes(name.encode())
    first = manifest(workspace)
    assert first["a"] == "0cc175b9c0f1b6a831c399e269772661"
    assert manifest(workspace) == first
    assert len(hashed) == 3
    status = (workspace.root / "b").stat()
    (workspace.root / "b").write_bytes(b"B")
    # Not even a workflow that puts the old time back hides a change.
    os.utime(workspace.root / "b", ns=(status.st_atime_ns, status.st_mtime_ns))
    assert manifest(workspace)["b"] == "9d5ed678fe57bcca610140957afab571"
    assert len(hashed) == 4


@pytest.mark.parametrize("damage", [b"", b"{", b"[]", b'{"a": 1}', b'{"a": [1]}', b"\xff"])
def test_a_damaged_cache_costs_time_only(workspace: Workspace, hashed: list[int], damage: bytes) -> None:
    (workspace.root / "a").write_bytes(b"a")
    first = manifest(workspace)
    (workspace.state / "hashes.json").write_bytes(damage)
    assert manifest(workspace) == first


def test_a_fingerprint_changes_with_any_file(workspace: Workspace) -> None:
    (workspace.root / "a").write_bytes(b"a")
    seen = [fingerprint(workspace.walk())]
    assert fingerprint(workspace.walk()) == seen[0]
    for change in (
        lambda: (workspace.root / "a").write_bytes(b"bb"),
        (workspace.root / "b").touch,
        lambda: (workspace.root / "b").rename(workspace.root / "c"),
        lambda: os.utime(workspace.root / "c", (1, 1)),
        (workspace.root / "c").unlink,
    ):
        change()
        seen.append(fingerprint(workspace.walk()))
    assert all(before != after for before, after in itertools.pairwise(seen))


def test_a_manifest_names_what_cannot_be_hashed(workspace: Workspace) -> None:
    (workspace.root / "x").write_bytes(b"1")
    walk = workspace.walk()
    (workspace.root / "x").write_bytes(b"22")
    with pytest.raises(WorkspaceError, match="'x'"):
        compute_manifest(workspace.root, walk, workspace.hashes)
    (workspace.root / "new\nline").touch()
    (workspace.root / os.fsdecode(b"latin-\xe4")).touch()
    with pytest.raises(NamesRefused) as caught:
        compute_manifest(workspace.root, workspace.walk(), workspace.hashes)
    assert len(caught.value.problems) == 2


# --- state -----------------------------------------------------------------------------------------------------------


def test_a_second_process_is_refused_naming_the_first_until_that_dies(workspace: Workspace) -> None:
    code = (
        "import sys; from pathlib import Path; from crunch_tasks.files.workspace import Workspace\n"
        f"with Workspace(Path({str(workspace.directory)!r}), 'p:d1').lock():\n"
        "    print('locked', flush=True); sys.stdin.read()\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"locked\n"
        with pytest.raises(WorkspaceError, match=f"process {other.pid} on {socket.gethostname()}"), workspace.lock():
            pass
        other.kill()
        other.wait()
    with workspace.lock():
        pass


def test_a_workspace_of_another_dataset_is_refused(workspace: Workspace) -> None:
    workspace.bind("http://a", 1, "p/d1")
    workspace.bind("http://a", 1, "p/d1")
    for other in (("http://b", 1, "p/d1"), ("http://a", 2, "p/d1"), ("http://a", 1, "p/d2")):
        with pytest.raises(WorkspaceError, match="belongs to another dataset"):
            workspace.bind(*other)


@pytest.mark.parametrize("slug", ["", "..", "p:..", "p:", "/etc", "p/d", ".state:d", "p:a\\b"])
def test_a_slug_that_leads_elsewhere_is_refused(tmp_path: Path, slug: str) -> None:
    with pytest.raises(WorkspaceError, match="slug"):
        Workspace(tmp_path, slug)


def test_datasets_have_their_own_folders(tmp_path: Path) -> None:
    one, other = Workspace(tmp_path, "p:d1"), Workspace(tmp_path, "p:d10")
    assert one.root == tmp_path / "p" / "d1"
    assert one.state == tmp_path / ".state" / "p" / "d1"
    assert not other.root.is_relative_to(one.root)


def test_a_folder_that_cannot_be_written_is_said_before_anything_starts(tmp_path: Path) -> None:
    (tmp_path / "work").write_bytes(b"a file where a folder is expected")
    with pytest.raises(WorkspaceError, match="Choose another --directory"):
        Workspace(tmp_path / "work", "p:d1").make()


@pytest.mark.parametrize("code", [errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS])
def test_a_directory_without_locks_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    def flock(*_: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(fcntl, "flock", flock)
    with pytest.raises(WorkspaceError, match=r"cannot be locked: its file system has no flock .*\$TMPDIR"):
        check_directory(tmp_path / "work")


def test_a_directory_whose_locks_stay_on_this_machine_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = tmp_path / "mountinfo"
    table.write_text(f"1 1 0:1 / {tmp_path} rw - nfs4 server:/home rw,vers=4.2,local_lock=none\n")
    monkeypatch.setattr(mounts, "MOUNT_TABLE", table)
    check_directory(tmp_path / "work")
    table.write_text(f"1 1 0:1 / {tmp_path} rw - nfs server:/home rw,vers=3,nolock,local_lock=all\n")
    with pytest.raises(WorkspaceError, match=rf"{tmp_path} \(nfs\) is mounted with local_lock=all.*\$TMPDIR"):
        check_directory(tmp_path / "work")


def test_a_lock_whose_folder_was_taken_away_is_taken_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state, real = tmp_path / "state", fcntl.flock

    def too_late(file: object, how: int) -> None:
        monkeypatch.setattr(fcntl, "flock", real)
        state.rename(tmp_path / "removed")
        real(file, how)  # type: ignore[arg-type]

    monkeypatch.setattr(fcntl, "flock", too_late)
    with held(state) as holder, held(state) as second:
        assert holder is None
        assert second == f"process {os.getpid()} on {socket.gethostname()}"


def test_crunchs_own_files_have_copies_that_a_workflow_cannot_reach(workspace: Workspace, tmp_path: Path) -> None:
    workspace.write(".crunch/dataset.json", b"{}")
    workspace.write(".crunch/script.sh", b"#!/bin/sh\r\n")
    assert workspace.tampered() == []
    (workspace.root / ".crunch" / "script.sh").unlink()
    (tmp_path / "evil").write_bytes(b"{}")
    (workspace.root / ".crunch" / "dataset.json").unlink()
    (workspace.root / ".crunch" / "dataset.json").symlink_to(tmp_path / "evil")
    assert workspace.tampered() == [".crunch/dataset.json", ".crunch/script.sh"]
    assert workspace.read(".crunch/script.sh") == b"#!/bin/sh\r\n"
    assert workspace.read(".crunch/never") is None
    # Writing again does not go through the link.
    workspace.write(".crunch/dataset.json", b"new")
    assert (tmp_path / "evil").read_bytes() == b"{}"
    assert workspace.tampered() == [".crunch/script.sh"]


def test_a_durable_write_leaves_the_old_file_when_it_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_durably(tmp_path / "deep" / "file", b"old")

    def fail(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(durable.os, "fsync", fail)
    with pytest.raises(WorkspaceError, match="No space left"):
        write_durably(tmp_path / "deep" / "file", b"new")
    assert [path.read_bytes() for path in (tmp_path / "deep").iterdir()] == [b"old"]


def test_what_was_learnt_about_an_object_holds_for_that_version_only(tmp_path: Path) -> None:
    path = tmp_path / "known.jsonl"
    known = KnownObjects(path)
    known.put(ObjectInfo("p/x", 3, 100), "a" * 32)
    known.put(ObjectInfo("p/untagged", 3), "b" * 32)
    asked = [
        ObjectInfo("p/x", 3, 100),
        ObjectInfo("p/x", 3, 101),
        ObjectInfo("p/x", 4, 100),
        ObjectInfo("p/untagged", 3),
    ]
    assert [info.md5 for info in KnownObjects(path).fill_in(asked)] == ["a" * 32, None, None, None]
    told = ObjectInfo("p/x", 3, 100, md5="c" * 32)
    assert KnownObjects(path).fill_in([told]) == [told]


@given(st.integers(0, 200))
def test_a_line_that_a_kill_cut_costs_only_that_line(tmp_path_factory: pytest.TempPathFactory, cut: int) -> None:
    path = tmp_path_factory.mktemp("known") / "known.jsonl"
    infos = [ObjectInfo(f"p/{number}", 3, 100) for number in range(3)]
    known = KnownObjects(path)
    for info in infos:
        known.put(info, "a" * 32)
    path.write_bytes(path.read_bytes()[:cut])
    survivor = KnownObjects(path)
    survivor.put(ObjectInfo("p/new", 3, 100), "d" * 32)
    again = KnownObjects(path).fill_in([*infos, ObjectInfo("p/new", 3, 100)])
    assert again[-1].md5 == "d" * 32
    assert {info.md5 for info in again[:3]} <= {"a" * 32, None}
