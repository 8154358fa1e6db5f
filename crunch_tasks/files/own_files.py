"""Crunch's own files of a dataset: what `.crunch/` has in the storage beside the manifests that commit.

Of `.snakemake/` only `metadata` and `log` travel, kept under `.crunch/snakemake/`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from crunch_tasks.contract import (
    CRUNCH_FOLDER,
    DATASET_JSON,
    DELETED,
    LOGS,
    PROJECT_JSON,
    SETUP_MANIFEST,
    UPLOAD_MANIFEST,
    WORKFLOW_FILE,
    attempt_folder,
)
from crunch_tasks.files import storage as storages
from crunch_tasks.files import tree
from crunch_tasks.files.checksums import hash_walked
from crunch_tasks.files.manifest import Entry, Manifest, deleted_txt
from crunch_tasks.files.parallel import Check, in_parallel
from crunch_tasks.files.paths import SNAKEMAKE_FOLDER, name_problem, safe_path, safe_prefix
from crunch_tasks.files.plan import ObjectInfo
from crunch_tasks.files.storage import Storage
from crunch_tasks.files.transfer import MayWrite, upload
from crunch_tasks.files.tree import Walk
from crunch_tasks.files.workspace import Workspace

SNAKEMAKE_COPY = f"{CRUNCH_FOLDER}/snakemake"
FOLDERS = {
    LOGS: LOGS,
    f"{SNAKEMAKE_FOLDER}/metadata": f"{SNAKEMAKE_COPY}/metadata",
    f"{SNAKEMAKE_FOLDER}/log": f"{SNAKEMAKE_COPY}/log",
}
"""Folders of the workspace that travel, and where they are in the storage."""


def documents(workspace: Workspace, final: Manifest, deleted: Iterable[str]) -> dict[str, bytes]:
    """The single files of `.crunch/` that the storage gets; those of Upload are written to the workspace here.

    What Setup wrote is taken from its trusted copies.
    """
    of_upload = {UPLOAD_MANIFEST: final.checksums_json(), DELETED: deleted_txt(deleted)}
    for path, data in of_upload.items():
        workspace.write(path, data)
    found = dict(of_upload)
    for path in (SETUP_MANIFEST, DATASET_JSON, PROJECT_JSON, *WORKFLOW_FILE.values()):
        kept = workspace.read(path)
        if kept is not None:
            found[path] = kept
    return found


def send_folders(
    storage: Storage,
    base: str,
    workspace: Workspace,
    listing: Mapping[str, ObjectInfo],
    *,
    may_write: MayWrite,
    check: Check,
) -> None:
    """Send the logs, and of `.snakemake/` what another machine can go on from; only what changed."""
    for folder, target in FOLDERS.items():
        _send_folder(storage, base, workspace, folder, target, listing, may_write, check)


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


def fetch_snakemake(storage: Storage, prefix: str, workspace: Workspace, *, check: Check = lambda: None) -> None:
    """Bring Snakemake's records of finished rules here, if an earlier run published some and none are here."""
    if (workspace.root / SNAKEMAKE_FOLDER / "metadata").exists():
        return
    base = f"{safe_prefix(prefix)}{SNAKEMAKE_COPY}/"
    keys = [info.key for info in storage.list_objects(base)]

    def fetch(key: str, check: Check) -> None:
        check()
        path = f"{SNAKEMAKE_FOLDER}/{safe_path(key, base)}"
        tree.write_file(workspace.root, path, storages.read(storage, key))

    in_parallel(fetch, keys, storage.parallel, check)


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
    walked = tree.walk(workspace.root, below=folder)
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
