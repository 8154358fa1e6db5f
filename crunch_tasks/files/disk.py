"""The disk of the workspaces: how much of it is to stay free, and what is kept back for when it is full."""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

from crunch_tasks.errors import WorkspaceError
from crunch_tasks.files.parallel import Check

LOOK_S = 2.0
"""How often a run looks at its disk while the workflow runs, in seconds."""

RESERVE_BYTES = 256 * 1024
"""Room for a run's last words (a Fail, its note, the log's new name), in bytes."""


def low_disk(folder: Path, low_water: int) -> str:
    """What to say when less than `low_water` bytes are free on the folder's disk, otherwise ""."""
    free = shutil.disk_usage(folder).free
    if free >= low_water:
        return ""
    return (
        f"The disk of {folder} has {free} bytes free, and {low_water} are to stay free (CRUNCH_LOW_WATER). Make room, "
        "such as by `crunch clean` or with --cleanup, or choose another --directory."
    )


def refuse_low_disk(folder: Path, low_water: int) -> None:
    """Raises WorkspaceError for a run that cannot rely on its disk."""
    problem = low_disk(folder, low_water)
    if problem:
        raise WorkspaceError(f"{problem} A tool that meets a full disk may cut its results short, so this run ends.")


def with_looks(check: Check, folder: Path, low_water: int) -> Check:
    """`check`, which also refuses a low disk, looking at it every LOOK_S seconds."""
    next_look = 0.0

    def both() -> None:
        nonlocal next_look
        check()
        if time.monotonic() >= next_look:
            refuse_low_disk(folder, low_water)
            next_look = time.monotonic() + LOOK_S

    return both


@contextlib.contextmanager
def reserved(folder: Path) -> Iterator[None]:
    """Hold some room on the disk meanwhile, so that it is there for what has to be written when the disk is full.

    Raises WorkspaceError when there is none.
    """
    reserve = folder / "reserve"
    try:
        # Random bytes, as some file systems keep nothing of zeros.
        reserve.write_bytes(os.urandom(RESERVE_BYTES))
    except OSError as error:
        reserve.unlink(missing_ok=True)
        raise WorkspaceError(f"{reserve} cannot be written: {error.strerror}. Make room on its disk.") from error
    try:
        yield
    finally:
        reserve.unlink(missing_ok=True)


def bytes_on_disk(*roots: Path) -> int:
    """What the folders and all in them take of the disk, in bytes; links are not followed."""
    taken = 0
    for root in roots:
        for folder, _, names in os.walk(root):
            for entry in (folder, *(os.path.join(folder, name) for name in names)):  # noqa: PTH118 - for many files
                with contextlib.suppress(FileNotFoundError):
                    taken += os.lstat(entry).st_blocks * 512
    return taken
