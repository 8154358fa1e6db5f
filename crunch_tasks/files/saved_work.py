"""What a stopped workflow had finished, kept in the storage under its attempt, for the next one on any machine.

    .crunch/attempts/FENCE/saved/PATH      a finished file
    .crunch/attempts/FENCE/saved.json      which files these are, and what they were made from; sent last
    .crunch/snakemake/FENCE/metadata/...   what Snakemake noted of them

It is no part of the dataset: nobody reads it but an attempt with the same inputs and the same workflow, and the next
commit's promotion removes it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from pathlib import Path

from crunch_tasks.contract import attempt_folder
from crunch_tasks.crash import Point, reached
from crunch_tasks.errors import NamesRefused, StorageError
from crunch_tasks.files import own_files
from crunch_tasks.files.manifest import Entry, Manifest, SavedWork
from crunch_tasks.files.parallel import Check
from crunch_tasks.files.paths import refuse_bad_names, safe_prefix
from crunch_tasks.files.plan import ATTEMPTS, Source
from crunch_tasks.files.storage import Storage
from crunch_tasks.files.transfer import MayWrite
from crunch_tasks.files.upload import upload
from crunch_tasks.files.walking import FileStat, Walk
from crunch_tasks.files.workspace import Workspace

_LIST = re.compile(rf"{re.escape(ATTEMPTS)}/(\d+)/saved\.json")


class TimeIsUpError(Exception):
    """What a `check` raises when nothing more can be saved."""


def save(
    storage: Storage,
    prefix: str,
    workspace: Workspace,
    *,
    fence: int,
    start: str,
    inputs: Mapping[str, Entry],
    whole_before: Callable[[float], float],
    may_write: MayWrite,
    check: Check,
) -> SavedWork | None:
    """Save what had become of the workspace by a moment when all was whole, as late a one as can be had.

    `start` says what it was made from, `whole_before` the last such moment up to another one (`time.time`). The oldest
    files are sent first, until `check` raises TimeIsUpError: then what there was before the first that did not make it
    is saved. What an earlier attempt with the same start saved is not sent again. Returns None, with nothing saved,
    when there is nothing, or the workflow changed one of its `inputs`: that change would be lost, and what was made of
    it kept.
    """
    base, walk = safe_prefix(prefix), workspace.walk()
    if not are_untouched(inputs, walk):
        return None
    earlier = find(storage, prefix, start)
    files, places = dict[str, Entry](), dict[str, int]()
    to_send: dict[str, FileStat] = {}
    for path in finished(workspace, walk, whole_before) - inputs.keys():
        here = walk.files[path]
        kept = earlier.files.get(path) if earlier else None
        if earlier and kept and (kept.md5, kept.size) == (workspace.hashes.get(path, here), here.size):
            files[path] = Entry(kept.md5, kept.size, here.mtime_ns)
            places[path] = earlier.places[path]
        else:
            to_send[path] = here

    def arrived(path: str, entry: Entry) -> None:
        files[path], places[path] = entry, fence
        reached(Point.WORK_SENT)

    try:
        own_files.send_records(storage, base, workspace, fence, may_write=may_write, check=check)
        by_age = sorted(to_send, key=lambda path: _changed_by_ns(workspace.root / path, to_send[path]))
        for begin in range(0, len(by_age), storage.parallel):
            sends = {path: base + _place(fence, path) for path in by_age[begin : begin + storage.parallel]}
            upload(storage, sends, workspace, Walk(to_send), {}, may_write=may_write, check=check, arrived=arrived)
    except TimeIsUpError:
        missed = [_changed_by_ns(workspace.root / path, to_send[path]) for path in to_send.keys() - files.keys()]
        if missed:
            whole = finished(workspace, walk, whole_before, workspace.moment_of(min(missed)))
            files = {path: entry for path, entry in files.items() if path in whole}
    if not files:
        return None
    saved = SavedWork(fence, start, Manifest(files), {path: places[path] for path in files})
    may_write(storage.timeout_s)
    storage.write(f"{base}{attempt_folder(fence)}/saved.json", saved.to_bytes())
    storage.flush()
    reached(Point.WORK_SAVED)
    return saved


def find(storage: Storage, prefix: str, start: str, *, after: int = 0) -> SavedWork | None:
    """The newest work that an attempt with a fence above `after` saved from the same `start`, if any."""
    base = safe_prefix(prefix)
    listed = (_LIST.fullmatch(info.key.removeprefix(base)) for info in storage.list_objects(f"{base}{ATTEMPTS}/"))
    fences = sorted((fence for found in listed if found and (fence := int(found[1])) > after), reverse=True)
    for fence in fences:
        try:
            saved = SavedWork.from_bytes(storage.read(f"{base}{attempt_folder(fence)}/saved.json"))
            refuse_bad_names(saved.files, folds=False)
        except (StorageError, NamesRefused) as error:
            if error.retryable:
                raise
            # Gone meanwhile, or damaged: it was a help only.
            continue
        if saved.start == start:
            return saved
    return None


def sources(saved: SavedWork, prefix: str) -> dict[str, Source]:
    """Where each saved file is read from, and what it must be."""
    base = safe_prefix(prefix)
    return {
        path: Source(base + _place(saved.places[path], path), entry.size, entry.md5, entry.mtime_ns)
        for path, entry in saved.files.items()
    }


def are_untouched(inputs: Mapping[str, Entry], walk: Walk) -> bool:
    """Whether a workflow left all its inputs as they were.

    Only then may what it finished stand without it: rules that change or delete an input would not run again.
    """
    here = walk.files
    return all(
        path in here and (here[path].size, here[path].mtime_ns) == (entry.size, entry.mtime_ns)
        for path, entry in inputs.items()
    )


def finished(
    workspace: Workspace, walk: Walk, whole_before: Callable[[float], float], moment: float = math.inf
) -> set[str]:
    """The files that were in their place, as they are, at the last moment up to `moment` when all was whole.

    `whole_before` tells that moment up to another one (`time.time`; infinite: all of them). Told by the files' time of
    change, which nobody can set.
    """
    margin_s = workspace.time_margin_s
    moment = whole_before(moment)
    # What surely was before a moment is what was before another one, which must be one when all was whole too.
    while moment != math.inf and (earlier := whole_before(moment - margin_s)) != moment - margin_s:
        moment = earlier
    if moment == math.inf:
        return set(walk.files)
    limit_ns = workspace.file_time_ns(moment - margin_s)
    return {path for path, here in walk.files.items() if _changed_by_ns(workspace.root / path, here) < limit_ns}


def _changed_by_ns(path: Path, here: FileStat) -> int:
    """By when it had changed for the last time, in the file system's own time."""
    changed_ns = here.ctime_ns if here.target is None else max(here.ctime_ns, path.lstat().st_ctime_ns)
    # Some file systems keep whole seconds only.
    return changed_ns + (0 if changed_ns % 10**9 else 10**9)


def _place(fence: int, path: str) -> str:
    return f"{attempt_folder(fence)}/saved/{path}"
