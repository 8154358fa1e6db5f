"""What a dataset's files are, for whoever reads them: the last commit, later attempts' plans, and listings of files.

Changes nothing in the storage.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any

from crunch_tasks.contract import DatasetState, attempt_folder, published_manifest
from crunch_tasks.errors import Altered, ObjectMissing, StorageError
from crunch_tasks.files.manifest import AttemptPlan, PublishedManifest
from crunch_tasks.files.paths import is_internal, name_problem, refuse_bad_names, safe_prefix
from crunch_tasks.files.plan import (
    ATTEMPTS,
    MEND,
    Inputs,
    ObjectInfo,
    Source,
    plan_fences,
    plan_path,
    resolve_inputs,
    staged_path,
)
from crunch_tasks.files.storage import Storage


@dataclass(frozen=True)
class FileList:
    """A dataset's files by path, in order.

    `problems` says of names that cannot be kept what is wrong with them. `published` tells whether these are the files
    that the last commit published and no others, `added` how many were put there since it; `cut` that there are more.
    """

    files: Mapping[str, Source] = field(default_factory=dict)
    problems: Mapping[str, str] = field(default_factory=dict)
    published: bool = False
    added: int = 0
    cut: bool = False


def shows_added(dataset: Mapping[str, Any]) -> bool:
    """Whether what people put there since the last commit is shown as the dataset's: until it is completed, as an input
    of the run that is to come, at work or to be retried. `dataset` is its body on the wire.
    """
    return bool(dataset["state"] != DatasetState.COMPLETED.value)


def list_files(
    storage: Storage, dataset: Mapping[str, Any], limit: int | None = None, *, added: bool = False
) -> FileList:
    """A dataset's files as the last commit says or, without one, as they lie there, `limit` of them at most.

    `dataset` is its body on the wire. What people put there since the last commit is an input of the next run: with
    `added` it is listed too, otherwise when that has published it. Raises Altered or StorageError when the committed
    manifest cannot be read.
    """
    most = None if limit is None else limit + 1
    new = 0
    base, sha256, fence = place_of(dataset)
    if sha256:
        committed = read_committed(storage, base, sha256, fence)
        staged = storage.list_objects(f"{base}{attempt_folder(fence)}/") if committed.modified else ()
        infos = {info.key: info for info in staged}
        if committed.unread:
            # Of these, nothing but the size was published: only the storage tells their versions.
            infos |= {info.key: info for info in storage.list_objects(base)}
        found = {path: _published_source(committed, base, path, infos) for path in names(committed)}
        if added:
            others = _lying(storage, base, fence, {*found, *committed.deleted}, most)
            new, found = len(others), found | others
    else:
        found = _lying(storage, base, fence, (), most)
    files = dict(islice(sorted(found.items()), limit))
    problems = {path: problem for path in files if (problem := name_problem(path))}
    return FileList(files, problems, published=bool(sha256) and not new, added=new, cut=len(found) > len(files))


def find_file(storage: Storage, dataset: Mapping[str, Any], path: str, *, added: bool = False) -> Source | None:
    """One file of those that `list_files` lists without a limit; None also when its name cannot be kept.

    Raises what `list_files` does, and Altered when the file is not what was published, or is gone.
    """
    base, sha256, fence = place_of(dataset)
    if name_problem(path) or is_internal(path):
        return None
    committed = read_committed(storage, base, sha256, fence) if sha256 else None
    if committed is None or path not in names(committed):
        is_shown = committed is None or (added and path not in committed.deleted)
        if not is_shown or path in left_behind(storage, base, fence):
            return None
        info = stat_file(storage, base + path)
        return None if info is None else info.as_source()
    staged = stat_file(storage, base + staged_path(fence, path)) if path in committed.modified else None
    info = staged or stat_file(storage, base + path)
    if info is None:
        raise Altered(f"{base + path!r} was published and is not in the storage any more. {MEND}")
    source = replace(_published_source(committed, base, path, {info.key: info}), tag=info.tag)
    if info.size != source.size:
        raise Altered(f"{info.key!r} has {info.size} bytes; {source.size} were published. {MEND}")
    # Where a listing tells a sum that is no MD5, the storage says so when it is asked.
    if source.md5 and info.md5 not in (None, source.md5) and storage.tells_md5(info.key):
        raise Altered(f"{info.key!r} has the MD5 {info.md5}; {source.md5} was published. {MEND}")
    return source


def stat_file(storage: Storage, key: str) -> ObjectInfo | None:
    """The object, or None also for what is no file: a folder, or a link that leads out of the storage."""
    try:
        return storage.stat(key)
    except StorageError as error:
        if error.retryable:
            raise
        return None


def place_of(dataset: Mapping[str, Any]) -> tuple[str, str, int]:
    """The prefix, and what the server says of the last commit: the manifest's SHA-256 ("": none) and the fence."""
    sha256, fence = str(dataset.get("manifest_sha256") or ""), int(dataset.get("manifest_fence") or 0)
    return safe_prefix(str(dataset["base_file_path"])), sha256, fence


def names(committed: PublishedManifest) -> set[str]:
    """The paths of all files that were published."""
    return {*committed.files, *committed.unread}


def _published_source(committed: PublishedManifest, base: str, path: str, infos: Mapping[str, ObjectInfo]) -> Source:
    key = base + staged_path(committed.fence, path)
    entry = committed.files.get(path)
    if entry is not None:
        return Source(key if key in infos else base + path, entry.size, entry.md5, entry.mtime_ns)
    info = infos.get(base + path)
    size = committed.unread[path]
    return replace(info.as_source(), size=size) if info else Source(base + path, size)


def _lying(storage: Storage, base: str, fence: int, without: Iterable[str], most: int | None) -> dict[str, Source]:
    """At most so many files that lie there and that no attempt after the fence left, as a run takes them for inputs."""
    others = {*without, *left_behind(storage, base, fence)}
    paths = ((info.key.removeprefix(base), info) for info in storage.list_objects(base))
    own = ((path, info.as_source()) for path, info in paths if not is_internal(path) and path not in others)
    return dict(islice(own, most))


def left_behind(storage: Storage, base: str, fence: int) -> set[str]:
    """What attempts after the fence of the last commit, 0 without one, may have left of new files."""
    paths = (info.key.removeprefix(base) for info in storage.list_objects(f"{base}{ATTEMPTS}/"))
    plans = read_plans(storage, base, [found for found in plan_fences(paths) if found > fence])
    return {path for plan in plans.values() for path in plan.new}


def listing_of(storage: Storage, prefix: str) -> dict[str, ObjectInfo]:
    """Every object of a dataset by its path below the prefix, internal ones included."""
    prefix = safe_prefix(prefix)
    return {info.key.removeprefix(prefix): info for info in storage.list_objects(prefix)}


def resolve(storage: Storage, prefix: str, sha256: str, fence: int) -> Inputs:
    """What a run starts from, as the storage is now. Raises as `publication.inputs` does."""
    listing = listing_of(storage, prefix)
    committed = read_committed(storage, prefix, sha256, fence) if sha256 else None
    # Earlier attempts are history: what they left is in the manifest, or a person or an old client took it over.
    plans = read_plans(storage, prefix, [found for found in plan_fences(listing) if found > fence])
    resolved = resolve_inputs(listing, committed, plans.values())
    refuse_bad_names(resolved.files, folds=False)
    return resolved


def read_committed(storage: Storage, prefix: str, sha256: str, fence: int) -> PublishedManifest:
    """The manifest of the last commit. Raises Altered when it is not there, or not what was committed."""
    key = safe_prefix(prefix) + published_manifest(fence)
    try:
        data = storage.read(key)
    except ObjectMissing:
        raise Altered(
            f"{key!r}, which says what the last run published, is not in the storage any more. {MEND}"
        ) from None
    found = hashlib.sha256(data).hexdigest()
    if found != sha256:
        raise Altered(f"{key!r} is not what was committed: its SHA-256 is {found}, the server says {sha256}. {MEND}")
    return PublishedManifest.from_bytes(data)


def read_plans(storage: Storage, prefix: str, fences: list[int]) -> dict[int, AttemptPlan]:
    """The plans of the attempts with these fences, but for those that whoever committed removed meanwhile."""
    plans = {}
    for fence in fences:
        try:
            plans[fence] = AttemptPlan.from_bytes(storage.read(safe_prefix(prefix) + plan_path(fence)))
        except ObjectMissing:
            continue
    return plans
