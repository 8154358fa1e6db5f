"""The computation of a workspace's MD5 manifest, as the one thing of a run that Prefect caches.

The key is a fingerprint of every file's name, size, times and inode, so a hit means that no file was touched since;
and of this machine and folder, since Prefect's results may be kept where many machines find them.
"""

from __future__ import annotations

import hashlib
import socket
import uuid
from collections.abc import Mapping
from typing import Any

from prefect import task
from prefect.context import TaskRunContext

from crunch_tasks.files.checksums import compute_manifest, fingerprint
from crunch_tasks.files.manifest import Manifest
from crunch_tasks.files.walking import Walk
from crunch_tasks.run import DatasetRun


def manifest_of(run: DatasetRun, walk: Walk) -> Manifest:
    """The manifest of the walked files; files are read only where neither Prefect nor our own hash cache knows them."""
    if run.workspace.hashes.has_all(walk):
        return _compute(run, walk)
    place = f"{socket.gethostname()} {uuid.getnode()} {run.workspace.root} {fingerprint(walk)}"
    return Manifest.from_wire(_md5_manifest(_Unlooked(run, walk), hashlib.sha256(place.encode()).hexdigest()))


class _Unlooked:
    """Holds what a task needs and Prefect need not look into."""

    def __init__(self, run: DatasetRun, walk: Walk) -> None:
        self.run = run
        self.walk = walk


def _cache_key(_context: TaskRunContext, parameters: Mapping[str, Any]) -> str:
    return f"crunch-md5-manifest-{parameters['fingerprint']}"


@task(
    name="md5-manifest",
    task_run_name="md5-manifest",
    cache_key_fn=_cache_key,
    persist_result=True,
    result_serializer="json",
)
def _md5_manifest(what: _Unlooked, fingerprint: str) -> dict[str, dict[str, Any]]:
    return _compute(what.run, what.walk).to_wire()


def _compute(run: DatasetRun, walk: Walk) -> Manifest:
    workspace = run.workspace
    return compute_manifest(
        workspace.root,
        walk,
        workspace.hashes,
        folds=workspace.folds,
        part_size=run.storage.part_size,
        check=run.lease.check,
    )
