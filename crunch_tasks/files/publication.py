"""How a run's results become the dataset, or leave no trace: the plan, the staged files, the manifest, the promotion.

    plan.json -> new files under their names, modified ones staged -> .crunch files -> manifest-FENCE.json
    -> (the server accepts its SHA-256: the commit) -> promotion of the staged files to their names

Until the commit a reader sees the inputs as they were; from the commit on it sees the result, promoted or not.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from crunch_tasks.contract import published_manifest
from crunch_tasks.errors import ObjectMissing, StorageError, TransferError
from crunch_tasks.files import own_files
from crunch_tasks.files import storage as storages
from crunch_tasks.files.manifest import AttemptPlan, Manifest, PublishedManifest, diff
from crunch_tasks.files.parallel import Check, in_parallel
from crunch_tasks.files.paths import refuse_bad_names, safe_prefix
from crunch_tasks.files.plan import (
    ATTEMPTS,
    Inputs,
    ObjectInfo,
    Source,
    is_staged_until,
    plan_fences,
    plan_path,
    resolve_inputs,
    staged_path,
    what_to_send,
)
from crunch_tasks.files.storage import Storage
from crunch_tasks.files.transfer import MayWrite, Progress, upload
from crunch_tasks.files.tree import Walk
from crunch_tasks.files.workspace import Workspace


@dataclass(frozen=True)
class Published:
    """What `publish` did: the manifest's SHA-256 to commit with, data files sent, their bytes, and those in place."""

    sha256: str
    sent: int
    bytes: int
    present: int


def listing_of(storage: Storage, prefix: str) -> dict[str, ObjectInfo]:
    """Every object of a dataset by its path below the prefix, internal ones included."""
    prefix = safe_prefix(prefix)
    return {info.key.removeprefix(prefix): info for info in storage.list_objects(prefix)}


def inputs(
    storage: Storage,
    prefix: str,
    manifest_sha256: str = "",
    manifest_fence: int = 0,
    *,
    check: Check = lambda: None,
) -> Inputs:
    """What a run of this dataset starts from; finishes a promotion that was left unfinished first.

    `manifest_sha256` and `manifest_fence` are those of the last commit, "" when there was none. Raises NamesRefused
    for names that cannot be kept, ObjectMissing or StorageError when the storage does not hold what was committed.
    """
    found = _resolve(storage, prefix, manifest_sha256, manifest_fence)
    if found.unpromoted:
        promote(storage, prefix, manifest_fence, manifest_sha256, check=check)
        found = _resolve(storage, prefix, manifest_sha256, manifest_fence)
    return found


def list_files(storage: Storage, dataset: Mapping[str, Any]) -> Mapping[str, Source]:
    """A dataset's files by path, as the last commit says or, without one, as they lie there; changes nothing.

    `dataset` is its body on the wire.
    """
    sha256, fence = str(dataset.get("manifest_sha256") or ""), int(dataset.get("manifest_fence") or 0)
    return _resolve(storage, str(dataset["base_file_path"]), sha256, fence).files


def _resolve(storage: Storage, prefix: str, sha256: str, fence: int) -> Inputs:
    listing = listing_of(storage, prefix)
    committed = read_committed(storage, prefix, sha256, fence) if sha256 else None
    # A dataset that a client without manifests completed has a fence and no manifest: earlier attempts are history.
    fences = [found for found in plan_fences(listing) if committed is not None or found > fence]
    plans = [_read_plan(storage, prefix, found) for found in fences]
    resolved = resolve_inputs(listing, committed, [plan for plan in plans if plan is not None])
    refuse_bad_names(resolved.files, folds=False)
    return resolved


def read_committed(storage: Storage, prefix: str, sha256: str, fence: int) -> PublishedManifest:
    """The manifest of the last commit. Raises ObjectMissing or StorageError when it is not what was committed."""
    key = safe_prefix(prefix) + published_manifest(fence)
    data = storages.read(storage, key)
    found = hashlib.sha256(data).hexdigest()
    if found != sha256:
        raise StorageError(f"{key!r} is not what was committed: its SHA-256 is {found}, the server says {sha256}")
    return PublishedManifest.from_bytes(data)


def _read_plan(storage: Storage, prefix: str, fence: int) -> AttemptPlan | None:
    try:
        return AttemptPlan.from_bytes(storages.read(storage, safe_prefix(prefix) + plan_path(fence)))
    except ObjectMissing:
        # Removed between the listing and here, by whoever committed that attempt.
        return None


def publish(
    storage: Storage,
    prefix: str,
    workspace: Workspace,
    *,
    fence: int,
    dataset_id: int,
    setup: Manifest,
    final: Manifest,
    walk: Walk,
    deleted_before: Iterable[str] = (),
    may_write: MayWrite = lambda _: None,
    check: Check = lambda: None,
    progress: Callable[[Progress], None] = lambda _: None,
) -> Published:
    """Bring a run's results to the storage, up to but without the commit.

    `setup` and `final` are the manifests before and after the workflow, `walk` the walk that `final` was made of,
    `deleted_before` the `Inputs.deleted` that the run started from. Sends only what the storage does not hold right;
    may be called again after any failure. The commit is the server accepting `Published.sha256`.
    """
    base = safe_prefix(prefix)
    change = diff(setup, final)
    listing = {
        info.key.removeprefix(base): info for info in workspace.known.fill_in(listing_of(storage, prefix).values())
    }

    def write(path: str, data: bytes) -> None:
        check()
        may_write(storage.timeout_s)
        storage.write(base + path, data)

    if change.added or change.modified:
        earlier = _read_plan(storage, prefix, fence) if plan_path(fence) in listing else None
        plan = AttemptPlan(
            fence,
            dataset_id,
            setup,
            new=tuple(sorted({*change.added, *(earlier.new if earlier else ())})),
            modified=tuple(sorted({*change.modified, *(earlier.modified if earlier else ())})),
        )
        if plan != earlier:
            write(plan_path(fence), plan.to_bytes())
    sends = what_to_send(change, final, listing, fence)

    def copy(target: str, check: Check) -> None:
        check()
        may_write(storage.timeout_s)
        source = listing[sends.copy[target]]
        storage.copy(source.key, base + target)
        _verify_copy(storage, base + target, source)

    in_parallel(copy, sends.copy, storage.parallel, check)
    targets = {path: base + target for path, target in sends.send.items()}
    report = upload(storage, targets, workspace, walk, final, may_write=may_write, check=check, progress=progress)
    for path, data in own_files.documents(workspace, final, change.deleted).items():
        write(path, data)
    own_files.send_folders(storage, base, workspace, listing, may_write=may_write, check=check)
    gone = {path for path in (*deleted_before, *change.deleted) if path not in final}
    manifest = PublishedManifest(fence, dataset_id, final, change.modified, tuple(sorted(gone)))
    write(published_manifest(fence), manifest.to_bytes())
    storage.flush()
    return Published(manifest.sha256, report.moved, report.bytes, len(sends.present) + len(sends.copy))


def promote(storage: Storage, prefix: str, fence: int, manifest_sha256: str, *, check: Check = lambda: None) -> int:
    """Give the modified files of a committed attempt their own names; returns how many still had to be.

    May be called by anyone, any number of times. Staged bytes go only when those under the name are verified; with
    them goes what earlier attempts staged, as nobody can need it any more.
    """
    base = safe_prefix(prefix)
    manifest = read_committed(storage, prefix, manifest_sha256, fence)
    attempts = {info.key.removeprefix(base): info for info in storage.list_objects(f"{base}{ATTEMPTS}/")}
    staged = {path: info for path in manifest.modified if (info := attempts.get(staged_path(fence, path)))}

    def move(path: str, check: Check) -> None:
        check()
        # Gone means that someone else is promoting too and is ahead; what is under the name is verified all the same.
        with contextlib.suppress(ObjectMissing):
            storage.copy(staged[path].key, base + path)
        _verify_copy(storage, base + path, replace(staged[path], md5=manifest.files[path].md5))

    in_parallel(move, staged, storage.parallel, check)
    storage.flush()
    done = [path for path in attempts if is_staged_until(path, fence) or path == plan_path(fence)]
    in_parallel(lambda path, _: storage.delete(base + path), done, storage.parallel, check)
    return len(staged)


def _verify_copy(storage: Storage, key: str, expected: ObjectInfo) -> None:
    """Raises TransferError unless the object holds the bytes of `expected`, the object that it was copied from."""
    there = storage.stat(key)
    if there is None:
        raise ObjectMissing(f"{key!r} was copied and is not there")
    is_same = there.etag is not None and there.etag == expected.etag
    md5 = expected.md5 if is_same else there.md5
    if md5 != expected.md5:
        digest = hashlib.md5(usedforsecurity=False)
        for block in storage.iter_bytes(key):
            digest.update(block)
        md5 = digest.hexdigest()
    if (there.size, md5) != (expected.size, expected.md5):
        raise TransferError(f"{key!r} was copied wrong: its MD5 is {md5}, expected {expected.md5}")
