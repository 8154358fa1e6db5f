"""What tests of a bad line to the storage do: files made, sent, and fetched as a run does it."""

from __future__ import annotations

from pathlib import Path

from crunch_tasks.files import publication
from crunch_tasks.files.checksums import compute_manifest
from crunch_tasks.files.plan import Source
from crunch_tasks.files.storage import Storage
from crunch_tasks.files.upload import upload
from crunch_tasks.files.workspace import Workspace


def made(directory: Path, files: dict[str, bytes]) -> Workspace:
    """A workspace with these files."""
    workspace = Workspace(directory, "p:d")
    workspace.make()
    for name, data in files.items():
        (workspace.root / name).write_bytes(data)
    return workspace


def send(storage: Storage, workspace: Workspace) -> None:
    """Upload all its files below p/d/."""
    walk = workspace.walk()
    manifest = compute_manifest(workspace.root, walk, workspace.hashes, part_size=storage.part_size)
    upload(storage, {path: f"p/d/{path}" for path in manifest}, workspace, walk, manifest)


def sources(storage: Storage, *names: str) -> dict[str, Source]:
    """What is below p/d/, or what of it has these names."""
    files = publication.inputs(storage, "p/d").files
    return {name: files[name] for name in names or files}
