"""A person's folder to a dataset's place in the storage, and a dataset's files to a person's folder.

Neither takes anything away: a push replaces no published file, a pull no file that is there and another one, unless
asked to. Both go on where they were interrupted.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from crunch_tasks.errors import NamesRefused, ObjectMissing, StorageError, WorkspaceError
from crunch_tasks.files import reading
from crunch_tasks.files.checksums import compute_manifest
from crunch_tasks.files.download import Downloaded, download, look
from crunch_tasks.files.manifest import Entry
from crunch_tasks.files.parallel import Check
from crunch_tasks.files.paths import is_internal, refuse_bad_names, safe_prefix
from crunch_tasks.files.plan import TAKE_FILES, ObjectInfo, shown
from crunch_tasks.files.storage import Storage
from crunch_tasks.files.sums import sum_of_parts
from crunch_tasks.files.transfer import Tell, nobody
from crunch_tasks.files.upload import upload
from crunch_tasks.files.workspace import OwnFolder


@dataclass(frozen=True)
class Pushed:
    """What a push did: files sent and their bytes, those of them that replaced another one, and those there already.

    `refused` tells of what was in the folder and is no file that can travel, a sentence each.
    """

    sent: int
    bytes: int
    replaced: int
    skipped: int
    refused: tuple[str, ...]


def push(
    storage: Storage,
    dataset: Mapping[str, Any],
    folder: OwnFolder,
    *,
    check: Check = lambda: None,
    progress: Tell = nobody,
) -> Pushed:
    """Send a folder's files to the dataset's place, as inputs of its next run.

    `dataset` is its body on the wire; nobody may be processing it. Raises NamesRefused, WorkspaceError or StorageError
    before anything is sent when a file cannot be kept, or would not be an input of the next run as it is here.
    """
    storage.check_overwrites(safe_prefix(str(dataset["base_file_path"])))
    base, sha256, fence = reading.place_of(dataset)
    walk = folder.walk()
    manifest = compute_manifest(folder.root, walk, folder.hashes, part_size=storage.part_size, check=check)
    if not manifest:
        raise WorkspaceError(f"There are no files in {folder.root}.")
    listing = {
        info.key.removeprefix(base): info for info in folder.known.fill_in(reading.listing_of(storage, base).values())
    }
    refuse_bad_names({*manifest, *(path for path in listing if not is_internal(path))}, folds=False)
    inputs = reading.resolve(storage, base, sha256, fence)
    ignored = sorted(manifest.keys() & {*inputs.deleted, *inputs.ignored})
    if ignored:
        raise StorageError(f"{shown(ignored)}: an earlier run deleted or left such files. First {TAKE_FILES}.")
    published = reading.read_committed(storage, base, sha256, fence).files if sha256 else {}
    other = [path for path in manifest if path in published and published[path].md5 != manifest[path].md5]
    if other:
        raise StorageError(
            f"{shown(other)}: the last run published another file of this name. To replace published files, put them "
            f"into the storage by hand and {TAKE_FILES}."
        )
    sends = {
        path: base + path
        for path, entry in manifest.items()
        if path not in published
        and not (path in listing and _is_there(listing[path], entry, folder.hashes.parts(path, walk.files[path])))
    }
    report = upload(storage, sends, folder, walk, manifest, check=check, progress=progress)
    storage.flush()
    replaced = len(sends.keys() & listing.keys())
    return Pushed(report.moved, report.bytes, replaced, len(manifest) - report.moved, walk.refused)


def pull(
    storage: Storage,
    dataset: Mapping[str, Any],
    folder: OwnFolder,
    *,
    overwrite: bool = False,
    check: Check = lambda: None,
    progress: Tell = nobody,
) -> Downloaded:
    """Bring a dataset's files to a folder, those that `crunch files` lists.

    Raises WorkspaceError when that would replace files that are there and others, unless `overwrite`; what is no file
    is never replaced. Also what `list_files` and `download` raise.
    """
    listed = reading.list_files(storage, dataset, added=reading.shows_added(dataset))
    if listed.problems:
        raise NamesRefused([f"{path!r}: {problem}" for path, problem in listed.problems.items()])
    if not listed.files:
        raise ObjectMissing(f"There are no files under {dataset['base_file_path']!r} in {storage.description}.")
    try:
        folder.root.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise WorkspaceError(f"The folder {folder.root} cannot be made: {error.strerror}") from error
    ours = (folder.partial / "x").relative_to(folder.root).as_posix()
    in_the_way = _no_files(folder.root, [*listed.files, ours])
    if in_the_way:
        raise WorkspaceError(f"{shown(in_the_way)} in {folder.root}: no plain file or folder. Move it away first.")
    sources, walk, wanted = look(storage, listed.files, folder, check=check)
    other = [path for path in wanted if path in walk.files]
    if other and not overwrite:
        raise WorkspaceError(
            f"{shown(other)} in {folder.root}: other files than the dataset's, or nobody knows. Pull into another "
            "folder, or replace them with --overwrite."
        )
    done = download(storage, sources, folder, check=check, progress=progress)
    with contextlib.suppress(OSError):
        # Nothing of ours is to stay in a person's folder.
        folder.partial.rmdir()
        folder.partial.parent.rmdir()
    return done


def _is_there(info: ObjectInfo, entry: Entry, parts: str) -> bool:
    """Whether the object is this file, by its MD5 or the sum of its parts."""
    same = info.md5 == entry.md5 or (parts != "" and sum_of_parts(info.etag) == parts)
    return info.size == entry.size and same


def _no_files(root: Path, paths: Iterable[str]) -> list[str]:
    """What is in the way of files at these paths, below the root, and is no file, or no folder where one is needed."""
    wrong: set[str] = set()
    folders: set[str] = set()
    for path in paths:
        parts = path.split("/")
        for end in range(1, len(parts)):
            above = "/".join(parts[:end])
            if above not in folders and not _is(root / above, stat.S_ISDIR):
                wrong.add(above)
            folders.add(above)
        if not _is(root / path, stat.S_ISREG):
            wrong.add(path)
    return sorted(wrong)


def _is(place: Path, kind: Any) -> bool:
    """Whether nothing is there, or something of this kind."""
    try:
        return bool(kind(os.lstat(place).st_mode))
    except (FileNotFoundError, NotADirectoryError):
        return True
