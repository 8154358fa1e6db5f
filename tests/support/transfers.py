"""A dataset's files in a storage and in a workspace, for tests of how they travel."""

from __future__ import annotations

import hashlib

from crunch_tasks.files import publication
from crunch_tasks.files.checksums import compute_manifest
from crunch_tasks.files.manifest import Manifest
from crunch_tasks.files.plan import Source
from crunch_tasks.files.storage import Storage
from crunch_tasks.files.workspace import Workspace

INPUTS = {"p/d1/a b": b"one", "p/d1/sub/sample#1": b"two" * 1000, "p/d1/empty": b"", "p/d1/ä.gz": b"\x1f\x8bthree"}


def md5(data: bytes) -> str:
    return hashlib.md5(data).hexdigest()


def fill(storage: Storage) -> None:
    for key, data in INPUTS.items():
        storage.write(key, data)


def sources(storage: Storage) -> dict[str, Source]:
    return dict(publication.inputs(storage, "p/d1").files)


def files_of(workspace: Workspace) -> dict[str, bytes]:
    return {path: (workspace.root / path).read_bytes() for path in workspace.walk().files}


EXPECTED = {key.removeprefix("p/d1/"): data for key, data in INPUTS.items()}


def manifest_of(workspace: Workspace) -> Manifest:
    return compute_manifest(workspace.root, workspace.walk(), workspace.hashes)
