"""What may go of a workspace: the files that the storage has as they are here, and nothing else.

Used after a run with `--cleanup` and by `crunch clean`. What is decided is apart from what is done.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from crunch_tasks.contract import DatasetState
from crunch_tasks.crash import Point, reached
from crunch_tasks.errors import WorkspaceError
from crunch_tasks.files.checksums import hash_walked
from crunch_tasks.files.parallel import Check, in_parallel
from crunch_tasks.files.paths import INTERNAL_FOLDERS
from crunch_tasks.files.reading import list_files, place_of
from crunch_tasks.files.storage import Storage
from crunch_tasks.files.tree import Folders
from crunch_tasks.files.walking import FileStat, Walk
from crunch_tasks.files.workspace import Workspace

SHOWN = 5
"""How many of the files that stay are named."""

_REMOVED = ".removed-"
"""What a state folder is called while it is being removed."""

_BOUND = {"dataset": "id", "base_path": "base_file_path"}
"""What a workspace notes of its dataset, and where the server has that."""


@dataclass(frozen=True)
class Verdict:
    """The files that may go, as they were walked, and what stays, a sentence each."""

    safe: Mapping[str, FileStat]
    stays: tuple[str, ...]


def judge(walk: Walk, published: Mapping[str, str], sums: Mapping[str, str]) -> Verdict:
    """Which walked files may go. `published` are the MD5s of what the storage has, `sums` those of what is here.

    | published | here                        | then  |
    |-----------|-----------------------------|-------|
    | no        | a file                      | stays |
    | yes       | no sum: it cannot be read   | stays |
    | yes       | another sum                 | stays |
    | yes       | the same sum                | goes  |
    |           | no file, or a link that leads out | stays |
    """

    def problem(path: str) -> str:
        if path not in published:
            return "it was not published"
        if path not in sums:
            return "it cannot be read, or is being written to"
        return "" if sums[path] == published[path] else "it changed since it was published"

    problems = {path: problem(path) for path in walk.files}
    stays = [f"{path!r}: {why}" for path, why in problems.items() if why]
    return Verdict({path: walk.files[path] for path, why in problems.items() if not why}, (*stays, *walk.refused))


@dataclass(frozen=True)
class Remains:
    """What earlier runs left of a dataset here.

    `bound` is what the workspace was made for, None when nobody noted it, `undelivered` how many updates wait, and
    `is_unfinished` tells that a command died and left its claim.
    """

    root: Path
    state: Path
    bound: Mapping[str, Any] | None
    undelivered: int
    is_unfinished: bool
    has_files: bool


def why_it_stays(remains: Remains, dataset: Mapping[str, Any] | None) -> str:
    """Why a workspace and its state stay whatever its files are, "" when only they decide.

    `dataset` is its body on the wire, None when the server does not know it.

    | undelivered | the dataset is         | is it the bound one | files here | then             |
    |-------------|------------------------|---------------------|------------|------------------|
    | yes         |                        |                     |            | stays            |
    | no          | running                |                     |            | stays            |
    | no, but a claim of a dead command is left |     |            |            | stays            |
    | no          | anything else          |                     | no         | goes             |
    | no          | unknown to the server  |                     | yes        | stays            |
    | no          | known                  | no                  | yes        | stays            |
    | no          | unprocessed, failed    | yes                 | yes        | stays            |
    | no          | completed              | yes                 | yes        | its files decide |
    """
    bound, known = remains.bound or {}, dataset or {}
    state, by_hand = known.get("state"), f"If nobody needs them, remove {remains.root} and {remains.state} by hand."
    is_bound_one = all(bound.get(ours) == known.get(theirs) for ours, theirs in _BOUND.items())
    if remains.undelivered:
        return f"{remains.undelivered} updates are not delivered yet. Run `crunch sync` first."
    if state == DatasetState.RUNNING.value:
        return "It is running; a run here goes on where it stood."
    if remains.is_unfinished:
        return "A command died at work on it; the next `crunch sync`, `next` or `loop` here finishes that."
    if not remains.has_files:
        return ""
    reasons = (
        (dataset is None, f"The server does not know this dataset, or not any more. {by_hand}"),
        (not is_bound_one, f"Its files are another dataset's of this name, perhaps another server's. {by_hand}"),
        (state == DatasetState.FAILED.value, f"It failed, and its files help to find out why. {by_hand}"),
        (state == DatasetState.UNPROCESSED.value, "It is not processed yet; a run here goes on where it stood."),
        (not known.get("manifest_sha256"), f"It was completed without a manifest of what was published. {by_hand}"),
    )
    return next((sentence for applies, sentence in reasons if applies), "")


def look(workspace: Workspace, published: Mapping[str, str], check: Check = lambda: None) -> Verdict:
    """Compare what is in the workspace now. A file that is as it was when it was hashed is not read again.

    Raises WorkspaceError for a folder that cannot be read.
    """
    walk = workspace.walk()

    def md5_of(path: str, check: Check) -> str | None:
        try:
            return hash_walked(workspace.root, path, walk.files[path], workspace.hashes, check)
        except WorkspaceError:
            return None

    paths = [path for path in walk.files if path in published]
    sums = zip(paths, in_parallel(md5_of, paths, os.cpu_count() or 1, check), strict=True)
    with contextlib.suppress(OSError):
        # On a full disk they are read again next time.
        workspace.hashes.save()
    return judge(walk, published, {path: md5 for path, md5 in sums if md5})


def remove(workspace: Workspace, verdict: Verdict) -> tuple[str, ...]:
    """Remove the files that may go, and their folders where nothing stays; returns what stays, a sentence each."""
    stays = list(verdict.stays)
    folders = Folders(workspace.root)
    for path, walked in verdict.safe.items():
        why = _unlink(folders, path, walked)
        if why:
            stays.append(f"{path!r}: {why}")
        reached(Point.LOCAL_FILE_REMOVED)
    shutil.rmtree(workspace.partial, ignore_errors=True)
    if not stays:
        # Crunch's and Snakemake's own files, of which the storage has what is of use.
        for name in INTERNAL_FOLDERS:
            _remove_tree(workspace.root / name)
    for folder, _, _ in os.walk(workspace.root, topdown=False):
        with contextlib.suppress(OSError):
            Path(folder).rmdir()
    if not stays and workspace.root.exists():
        stays.append(f"something is writing into {workspace.root}")
    return tuple(stays)


def clean_up(workspace: Workspace, published: Mapping[str, str]) -> str:
    """Remove the workspace of a run whose results are committed; returns what stays and why, "" when nothing does.

    Its state goes after its last file, when nothing is left to do for the run. Only for who holds the workspace.
    """
    try:
        stays = remove(workspace, look(workspace, published))
        if not stays and workspace.is_settled:
            remove_state(workspace.state)
    except (WorkspaceError, OSError) as error:
        return f"Not all of {workspace.root} could be removed: {error}"
    return f"Not removed from {workspace.root}: {some_of(stays)}" if stays else ""


def remove_state(state: Path) -> None:
    """Remove a state folder that we hold: out of the way at once, so that whoever comes next makes a new one.

    Raises OSError when that is not possible.
    """
    states = state.parent.parent
    state.rename(states / f"{_REMOVED}{secrets.token_hex(8)}")
    reached(Point.STATE_PUT_AWAY)
    finish_removals(states)


def finish_removals(states: Path) -> None:
    """Remove the state folders that are out of the way, also those of a process that was killed at it."""
    for removed in states.glob(f"{_REMOVED}*"):
        shutil.rmtree(removed, ignore_errors=True)


def is_being_removed(state: Path) -> bool:
    """Whether this is, or is part of, a state folder that is out of the way."""
    return state.parent.name.startswith(_REMOVED)


def some_of(sentences: tuple[str, ...]) -> str:
    """The first of these, and how many more there are."""
    more = f"; and {len(sentences) - SHOWN} more" if len(sentences) > SHOWN else ""
    return "; ".join(sentences[:SHOWN]) + more


def published_sums(storage: Storage, dataset: Mapping[str, Any]) -> dict[str, str]:
    """The MD5 of each published file that the storage still has, by all that a listing tells.

    Raises ObjectMissing or StorageError when what was published cannot be read.
    """
    there = {info.key: info for info in storage.list_objects(place_of(dataset)[0])}

    def is_there(key: str, size: int, md5: str) -> bool:
        info = there.get(key)
        return info is not None and info.size == size and (info.md5 in (None, md5) or not storage.tells_md5(key))

    sums = {path: (source, source.md5) for path, source in list_files(storage, dataset).files.items()}
    return {path: md5 for path, (source, md5) in sums.items() if md5 and is_there(source.key, source.size, md5)}


def _unlink(folders: Folders, path: str, walked: FileStat) -> str:
    """Remove a walked file if it is still that file; returns why not, "" when it is gone."""
    above, _, name = path.rpartition("/")
    try:
        folder = folders.open(above, make=False)
        status = os.stat(name, dir_fd=folder.descriptor, follow_symlinks=False)
        if walked.target is None:
            # Not the ctime: it changes when another name of the same file is removed.
            now, then = FileStat.of(status), walked
            is_same = (now.size, now.mtime_ns, now.inode) == (then.size, then.mtime_ns, then.inode)
        else:
            is_same = stat.S_ISLNK(status.st_mode)
        if not is_same:
            return "it changed since it was published"
        os.unlink(name, dir_fd=folder.descriptor)
    except FileNotFoundError:
        return ""
    except OSError as error:
        return error.strerror or str(error)
    return ""


def _remove_tree(place: Path) -> None:
    """Remove a folder, or a link or file that is there instead."""
    with contextlib.suppress(FileNotFoundError):
        if stat.S_ISDIR(place.lstat().st_mode):
            shutil.rmtree(place)
        else:
            place.unlink()
