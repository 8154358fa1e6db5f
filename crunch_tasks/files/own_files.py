"""Crunch's own files of a dataset: what `.crunch/` has in the storage beside the manifests that commit.

Of `.snakemake/` only `metadata` and `log` travel, kept under `.crunch/snakemake/FENCE/`: what Snakemake noted of an
attempt that was neither committed nor saved says nothing of the files that the next one starts from.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping

from crunch_tasks.contract import (
    CRUNCH_FOLDER,
    DATASET_JSON,
    DELETED,
    LOGS,
    PROJECT_JSON,
    SETUP_MANIFEST,
    UPLOAD_MANIFEST,
    attempt_folder,
)
from crunch_tasks.files import tree
from crunch_tasks.files.checksums import hash_walked
from crunch_tasks.files.manifest import Entry, Manifest, deleted_txt
from crunch_tasks.files.parallel import Check, in_parallel
from crunch_tasks.files.paths import SNAKEMAKE_FOLDER, name_problem, safe_path, safe_prefix
from crunch_tasks.files.plan import ObjectInfo
from crunch_tasks.files.storage import Storage
from crunch_tasks.files.transfer import MayWrite
from crunch_tasks.files.upload import upload
from crunch_tasks.files.walking import Walk, walk
from crunch_tasks.files.workspace import Workspace

SNAKEMAKE_COPY = f"{CRUNCH_FOLDER}/snakemake"
_RECORDS = re.compile(rf"{re.escape(SNAKEMAKE_COPY)}/(\d+)/.+", re.DOTALL)


def _folders(fence: int) -> dict[str, str]:
    """Folders of the workspace that travel, and where the attempt with this fence has them in the storage."""
    records = {f"{SNAKEMAKE_FOLDER}/{name}": f"{SNAKEMAKE_COPY}/{fence}/{name}" for name in ("metadata", "log")}
    return {LOGS: LOGS, **records}


def documents(workspace: Workspace, final: Manifest, deleted: Iterable[str], workflow_file: str) -> dict[str, bytes]:
    """The single files of `.crunch/` that the storage gets; those of Upload are written to the workspace here.

    What Setup wrote is taken from its trusted copies; of workflows only `workflow_file`, as the workspace may have that
    of an earlier run too.
    """
    of_upload = {UPLOAD_MANIFEST: final.checksums_json(), DELETED: deleted_txt(deleted)}
    for path, data in of_upload.items():
        workspace.write(path, data)
    found = dict(of_upload)
    for path in (SETUP_MANIFEST, DATASET_JSON, PROJECT_JSON, workflow_file):
        kept = workspace.read(path)
        if kept is not None:
            found[path] = kept
    return found


def send_folders(
    storage: Storage,
    base: str,
    workspace: Workspace,
    fence: int,
    listing: Mapping[str, ObjectInfo],
    *,
    may_write: MayWrite,
    check: Check,
) -> None:
    """Send the logs, and of `.snakemake/` what another machine can go on from; only what changed."""
    for folder, target in _folders(fence).items():
        _send_folder(storage, base, workspace, folder, target, listing, may_write, check)


def send_records(
    storage: Storage, base: str, workspace: Workspace, fence: int, *, may_write: MayWrite, check: Check
) -> None:
    """Send what Snakemake noted of finished rules, for an attempt that goes on from what this one saved."""
    folder = f"{SNAKEMAKE_FOLDER}/metadata"
    _send_folder(storage, base, workspace, folder, _folders(fence)[folder], {}, may_write, check)


def save_logs(
    storage: Storage,
    prefix: str,
    workspace: Workspace,
    fence: int,
    *,
    may_write: MayWrite = lambda _: None,
    check: Check = lambda: None,
) -> None:
    """Keep a failed run's logs in the storage, under its attempt; its data stays unpublished."""
    target = f"{attempt_folder(fence)}/logs"
    _send_folder(storage, safe_prefix(prefix), workspace, LOGS, target, {}, may_write, check)


def fetch_snakemake(
    storage: Storage, prefix: str, fence: int, workspace: Workspace, *, check: Check = lambda: None
) -> None:
    """Bring here what Snakemake noted of finished rules in the run with this fence, which was committed or saved.

    It replaces what is noted here of the same files: they were brought back to what was committed or saved.
    """
    base = f"{safe_prefix(prefix)}{SNAKEMAKE_COPY}/{fence}/"

    def fetch(info: ObjectInfo, check: Check) -> None:
        check()
        path = f"{SNAKEMAKE_FOLDER}/{safe_path(info.key, base)}"
        here = tree.read_file(workspace.root, path)
        if here is not None and info.md5 == hashlib.md5(here, usedforsecurity=False).hexdigest():
            return
        data = storage.read(info.key)
        check()
        tree.write_file(workspace.root, path, data)

    in_parallel(fetch, list(storage.list_objects(base)), storage.parallel, check)


def snakemake_before(storage: Storage, base: str, fence: int) -> list[str]:
    """The paths of Snakemake's records of attempts with a smaller fence: nobody needs them after this one's commit."""
    paths = (info.key.removeprefix(base) for info in storage.list_objects(f"{base}{SNAKEMAKE_COPY}/"))
    return [path for path in paths if (found := _RECORDS.fullmatch(path)) and int(found[1]) < fence]


def _send_folder(
    storage: Storage,
    base: str,
    workspace: Workspace,
    folder: str,
    target: str,
    listing: Mapping[str, ObjectInfo],
    may_write: MayWrite,
    check: Check,
) -> None:
    walked = walk(workspace.root, below=folder)
    # A link that Snakemake or a workflow made in there would carry other files along.
    files = {path: file for path, file in walked.files.items() if file.target is None and not name_problem(path)}
    entries = {
        path: Entry(hash_walked(workspace.root, path, file, workspace.hashes, check), file.size, file.mtime_ns)
        for path, file in files.items()
    }
    sends = {}
    for path, entry in entries.items():
        there = listing.get(target + path.removeprefix(folder))
        if there is None or (there.size, there.md5) != (entry.size, entry.md5):
            sends[path] = base + target + path.removeprefix(folder)
    upload(storage, sends, workspace, Walk(files), entries, may_write=may_write, check=check)
