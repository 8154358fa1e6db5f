"""How a run's results become the dataset, or leave no trace: the plan, the staged files, the manifest, the promotion.

    plan.json -> new files under their names, modified ones staged -> .crunch files -> manifest-FENCE.json
    -> (the server accepts its SHA-256: the commit) -> promotion of the staged files to their names

Until the commit a reader sees the inputs as they were; from the commit on it sees the result, promoted or not.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from crunch_tasks.contract import CRUNCH_FOLDER, attempt_folder, published_manifest
from crunch_tasks.crash import Point, reached
from crunch_tasks.errors import ObjectMissing, StorageError, TransferError
from crunch_tasks.files import own_files
from crunch_tasks.files.manifest import AttemptPlan, Diff, Entry, Manifest, PublishedManifest
from crunch_tasks.files.parallel import Check, in_parallel
from crunch_tasks.files.paths import refuse_bad_names, safe_prefix
from crunch_tasks.files.plan import (
    ATTEMPTS,
    Inputs,
    ObjectInfo,
    Source,
    changes,
    entry_of,
    is_settled,
    plan_fences,
    plan_path,
    shown,
    staged_path,
    stored_entries,
    what_to_send,
)
from crunch_tasks.files.reading import listing_of, read_committed, read_plans, resolve
from crunch_tasks.files.storage import Storage
from crunch_tasks.files.transfer import MayWrite, Tell, nobody
from crunch_tasks.files.upload import upload
from crunch_tasks.files.verify import md5_by_reading
from crunch_tasks.files.walking import Walk
from crunch_tasks.files.workspace import Workspace


@dataclass(frozen=True)
class Published:
    """What `publish` did: the manifest's SHA-256 to commit with, data files sent, their bytes, and those in place.

    `final` is the manifest of the workspace.
    """

    sha256: str
    final: Manifest
    sent: int
    bytes: int
    present: int


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
    found = resolve(storage, prefix, manifest_sha256, manifest_fence)
    if found.unpromoted:
        promote(storage, prefix, manifest_fence, manifest_sha256, check=check)
        found = resolve(storage, prefix, manifest_sha256, manifest_fence)
    return found


def publish(
    storage: Storage,
    prefix: str,
    workspace: Workspace,
    *,
    fence: int,
    dataset_id: int,
    setup: Manifest,
    inputs: Inputs,
    walk: Walk,
    manifest_of: Callable[[Walk], Manifest],
    workflow_file: str,
    fetched: bool = True,
    may_write: MayWrite = lambda _: None,
    check: Check = lambda: None,
    progress: Tell = nobody,
) -> Published:
    """Bring a run's results to the storage, up to but without the commit.

    `setup` is the manifest of the workspace when Setup ended, `walk` what it has now; `manifest_of` hashes walked
    files, but for those that the storage has nothing of: these are hashed while they are sent. `workflow_file` is where
    in `.crunch/` the workflow is. `inputs` is what the run started from; `fetched` says that Setup brought them here.
    Inputs that were never here stay the dataset's files: they go into the manifest, those of unknown MD5 as `unread`.

    Sends only what the storage does not hold right; may be called again after any failure. The commit is the server
    accepting `Published.sha256`. Raises StorageError when an input that the manifest would name is not in the storage
    as it was any more, and NamesRefused when results and inputs cannot be in one dataset.
    """
    base = safe_prefix(prefix)
    listing = {
        info.key.removeprefix(base): info for info in workspace.known.fill_in(listing_of(storage, prefix).values())
    }
    unhashed = {
        path
        for path, walked in walk.files.items()
        if path not in inputs.files and path not in listing and not workspace.hashes.get(path, walked)
    }
    hashed = manifest_of(Walk({path: walked for path, walked in walk.files.items() if path not in unhashed}))
    stored = stored_entries(setup, inputs, fetched=fetched)
    change = changes(setup, hashed, inputs, stored)
    sends = what_to_send(change, hashed, listing, fence)
    change = replace(change, added=tuple(sorted({*change.added, *unhashed})))
    elsewhere = {path: source for path, source in inputs.files.items() if path not in setup and path not in hashed}
    there, unread = _as_they_are(elsewhere)
    refuse_bad_names([*walk.files, *elsewhere], folds=False)
    relied_on = {path: inputs.files[path] for path in (*change.unchanged, *elsewhere)}
    _refuse_changed(storage, listing, base, relied_on, {**hashed, **there}, check)

    def write(path: str, data: bytes) -> ObjectInfo:
        check()
        may_write(storage.timeout_s)
        return storage.write(base + path, data)

    plans = read_plans(storage, prefix, plan_fences(listing))
    plan = _plan(fence, dataset_id, stored, change, plans.get(fence))
    if (change.added or change.modified) and plan != plans.get(fence):
        write(plan_path(fence), plan.to_bytes())
        reached(Point.PLAN_SENT)

    def copy(target: str, check: Check) -> None:
        check()
        may_write(storage.timeout_s)
        storage.copy(base + sends.copy[target], base + target)
        _verify_copy(storage, base + target, listing[sends.copy[target]])

    in_parallel(copy, sends.copy, storage.parallel, check)
    targets = {path: base + target for path, target in {**sends.send, **{path: path for path in unhashed}}.items()}
    report = upload(storage, targets, workspace, walk, hashed, may_write=may_write, check=check, progress=progress)
    final = Manifest({**hashed, **report.sent})
    whole = Manifest({**final, **there})
    own = own_files.documents(workspace, final, setup.keys() - final.keys(), workflow_file)

    def write_if_other(path: str, _check: Check) -> None:
        md5 = hashlib.md5(own[path], usedforsecurity=False).hexdigest()
        there = listing.get(path)
        if there is None or there.md5 != md5:
            workspace.known.put(write(path, own[path]), md5)
            reached(Point.OWN_FILE_SENT)

    in_parallel(write_if_other, own, storage.parallel, check)
    own_files.send_folders(storage, base, workspace, fence, listing, may_write=may_write, check=check)
    if targets and relied_on:
        # Sending may have taken hours.
        _refuse_changed(storage, listing_of(storage, prefix), base, relied_on, whole, check)
    left = {path for found in plans.values() for path in found.new} - inputs.files.keys()
    gone = {*inputs.deleted, *change.deleted, *left} - whole.keys()
    manifest = PublishedManifest(fence, dataset_id, whole, change.modified, tuple(sorted(gone)), unread).to_bytes()
    write(published_manifest(fence), manifest)
    storage.flush()
    reached(Point.MANIFEST_SENT)
    sha256 = hashlib.sha256(manifest).hexdigest()
    return Published(sha256, final, report.moved, report.bytes, len(sends.present) + len(sends.copy))


def _as_they_are(sources: Mapping[str, Source]) -> tuple[dict[str, Entry], dict[str, int]]:
    """Inputs that were never here: those of known MD5 as a manifest has them, and the sizes of the others."""
    known = {path: entry for path, source in sources.items() if (entry := entry_of(source))}
    return known, {path: source.size for path, source in sources.items() if path not in known}


def _plan(fence: int, dataset_id: int, stored: Manifest, change: Diff, earlier: AttemptPlan | None) -> AttemptPlan:
    """The plan for a change, with what this attempt planned before: that may have been sent."""
    return AttemptPlan(
        fence,
        dataset_id,
        stored,
        new=tuple(sorted({*change.added, *(earlier.new if earlier else ())})),
        modified=tuple(sorted({*change.modified, *(earlier.modified if earlier else ())})),
    )


def _refuse_changed(
    storage: Storage,
    listing: Mapping[str, ObjectInfo],
    base: str,
    sources: Mapping[str, Source],
    entries: Mapping[str, Entry],
    check: Check,
) -> None:
    """Raises StorageError, naming them, for sources that are not in the storage any more as they were.

    `entries` tells their MD5, where it is known. An object of another version is read: its bytes may be the same.
    """
    changed, doubtful = [], []
    for path, source in sources.items():
        there = listing.get(source.key.removeprefix(base))
        if there is None or there.size != source.size:
            changed.append(path)
        elif path in entries and there.tag != source.tag and there.md5 != entries[path].md5:
            doubtful.append(path)

    def is_other(path: str, check: Check) -> bool:
        check()
        return (
            md5_by_reading(storage, listing[sources[path].key.removeprefix(base)].as_source(), check)
            != entries[path].md5
        )

    others = in_parallel(is_other, doubtful, storage.parallel, check)
    changed += [path for path, other in zip(doubtful, others, strict=True) if other]
    if changed:
        raise StorageError(
            f"{len(changed)} of the dataset's files were changed or removed in the storage during the run: "
            f"{shown(sorted(changed))}. Nothing was published; run it again."
        )


def promote(storage: Storage, prefix: str, fence: int, manifest_sha256: str, *, check: Check = lambda: None) -> int:
    """Give the modified files of a committed attempt their own names; returns how many still had to be.

    May be called by anyone, any number of times. Staged bytes go only when those under the name are verified; with
    them go the plans, what earlier attempts staged, and what killed ones left half, as nobody can need them any more.
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
        reached(Point.FILE_PROMOTED)

    in_parallel(move, staged, storage.parallel, check)
    storage.flush()
    own = f"{base}{CRUNCH_FOLDER}/"
    storage.remove_unfinished(base, lambda key: key.startswith(own) or key.removeprefix(base) in manifest.files)
    done = [path for path in attempts if is_settled(path, fence)]
    done += own_files.snakemake_before(storage, base, fence)
    _remove(storage, base, done, check)
    return len(staged)


def remove_overtaken(storage: Storage, prefix: str, fence: int) -> None:
    """Remove what the attempt `fence` left, which a later one that has committed has no use for.

    A write of it that was under way when its client stood still may have arrived after the later one's promotion.
    """
    base = safe_prefix(prefix)
    left = (info.key.removeprefix(base) for info in storage.list_objects(f"{base}{attempt_folder(fence)}/"))
    _remove(storage, base, [path for path in left if is_settled(path, fence)], lambda: None)


def _remove(storage: Storage, base: str, paths: list[str], check: Check) -> None:
    def remove(path: str, _check: Check) -> None:
        storage.delete(base + path)
        reached(Point.ATTEMPT_REMOVED)

    in_parallel(remove, paths, storage.parallel, check)


def _verify_copy(storage: Storage, key: str, expected: ObjectInfo) -> None:
    """Raises TransferError unless the object holds the bytes of `expected`, the object that it was copied from."""
    there = storage.stat(key)
    if there is None:
        raise ObjectMissing(f"{key!r} was copied and is not there")
    is_same = there.etag is not None and there.etag == expected.etag
    md5 = expected.md5 if is_same else there.md5
    if md5 != expected.md5:
        md5 = md5_by_reading(storage, there.as_source())
    if (there.size, md5) != (expected.size, expected.md5):
        raise TransferError(f"{key!r} was copied wrong: its MD5 is {md5}, expected {expected.md5}")
