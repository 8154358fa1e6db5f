"""Files of the client's own state: whole or not there, and on the disk before anything relies on them."""

from __future__ import annotations

import os
import uuid
from pathlib import Path

from crunch_tasks.crash import Point, reached
from crunch_tasks.errors import WorkspaceError

STATE_FOLDER = ".state"
"""In the `--directory`: what the client remembers of its runs, beside the workspaces, out of the workflows' reach."""


TEMPORARY = ".crunch-tmp"
"""How the name of a file ends that is not whole yet; what a killed process left is removed by the next one."""


def make_folder(folder: Path) -> Path:
    """Raises WorkspaceError when the folder cannot be made."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise WorkspaceError(
            f"The folder {folder} cannot be made: {error.strerror}. Choose another --directory."
        ) from error
    return folder


def write_durably(path: Path, data: bytes, mode: int = 0o666) -> None:
    """Write a temporary file, sync, rename, sync the folder, which is made if need be. Raises WorkspaceError.

    `mode` is what others may do with the file, before the process's own mask.
    """
    make_folder(path.parent)
    temporary = path.with_name(f".{uuid.uuid4().hex}{TEMPORARY}")
    try:
        with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        reached(Point.STATE_SYNCED)
        temporary.replace(path)
        sync_folder(path.parent)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise WorkspaceError(f"{path} cannot be written: {error.strerror}.") from error


def remove_torn(folder: Path) -> None:
    """Remove what killed processes left half written below `folder`, in which nobody else may be at work."""
    for path in folder.rglob(f".*{TEMPORARY}"):
        path.unlink(missing_ok=True)


def sync_folder(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
