"""What a stopped workflow had finished, kept in the storage under its attempt, for the next one on any machine.

    .crunch/attempts/FENCE/saved/PATH      a finished file
    .crunch/attempts/FENCE/saved.json      which files these are, and what they were made from; sent last
    .crunch/snakemake/FENCE/metadata/...   what Snakemake noted of them

It is no part of the dataset: nobody reads it but an attempt with the same inputs and the same workflow, and the next
commit's promotion removes it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from crunch_tasks.contract import attempt_folder
from crunch_tasks.crash import Point, reached
from crunch_tasks.errors import ObjectMissing
from crunch_tasks.files import own_files
from crunch_tasks.files.manifest import Entry, Manifest, SavedWork
from crunch_tasks.files.parallel import Check
from crunch_tasks.files.paths import refuse_bad_names, safe_prefix
from crunch_tasks.files.plan import ATTEMPTS, Source
from crunch_tasks.files.storage import LARGE, Storage
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
    is_finished: Callable[[str], bool],
    may_write: MayWrite,
    check: Check,
) -> SavedWork | None:
    """Save the workspace's finished files, until `check` raises TimeIsUpError: what has arrived by then is saved.

    `start` says what they were made from. What an earlier attempt with the same start saved is not sent again. Returns
    None, with nothing saved, when the workflow changed one of its `inputs`: that change would be lost, and what was
    made of it kept.
    """
    base, walk = safe_prefix(prefix), workspace.walk()
    if not are_untouched(inputs, walk):
        return None
    earlier = find(storage, prefix, start)
    files, places = dict[str, Entry](), dict[str, int]()
    to_send: dict[str, FileStat] = {}
    for path, here in walk.files.items():
        if path in inputs or here.target is not None or not is_finished(path):
            continue
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
        # The small ones first: of a large one that does not make it nothing is left.
        for is_large in (False, True):
            sends = {
                path: base + _place(fence, path) for path, here in to_send.items() if (here.size > LARGE) is is_large
            }
            upload(storage, sends, workspace, Walk(to_send), {}, may_write=may_write, check=check, arrived=arrived)
    except TimeIsUpError:
        pass
    if not files:
        return None
    saved = SavedWork(fence, start, Manifest(files), places)
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
        except ObjectMissing:
            continue
        if saved.start == start:
            refuse_bad_names(saved.files, folds=False)
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


def _place(fence: int, path: str) -> str:
    return f"{attempt_folder(fence)}/saved/{path}"
