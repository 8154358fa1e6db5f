"""A workspace's files, as they are found: regular files, and links to regular files inside. Nothing is opened.

What else lies there is named, for the run to report.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from crunch_tasks.errors import WorkspaceError
from crunch_tasks.files.paths import INTERNAL_FOLDERS


@dataclass(frozen=True, slots=True)
class FileStat:
    """One walked file: size in bytes, times in nanoseconds. `target` is the path that a link leads to, else None."""

    size: int
    mtime_ns: int
    ctime_ns: int
    inode: int
    target: str | None = None

    @classmethod
    def of(cls, status: os.stat_result, target: str | None = None) -> FileStat:
        return cls(status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino, target)


@dataclass(frozen=True)
class Walk:
    """The dataset's files in a workspace by relative path, and what is there but no file of it, a sentence each."""

    files: Mapping[str, FileStat]
    refused: tuple[str, ...] = ()


def walk(root: Path, *, below: str = "", internal: bool = False) -> Walk:
    """The regular files of the tree, without Crunch's and Snakemake's own folders unless `internal`.

    A link to a regular file inside the tree counts as that file. Other links, FIFOs, sockets and devices are reported
    in `refused`, never opened. `below` walks one folder of the tree only. Raises WorkspaceError for a folder that
    cannot be read.
    """
    files: dict[str, FileStat] = {}
    refused: list[str] = []
    real_root = Path(os.path.realpath(root))
    folders = [below]
    while folders:
        folder = folders.pop()
        for entry in scan(root, folder):
            path = f"{folder}/{entry.name}" if folder else entry.name
            if not internal and not folder and entry.name in INTERNAL_FOLDERS:
                continue
            status = entry.stat(follow_symlinks=False)
            if stat.S_ISDIR(status.st_mode):
                folders.append(path)
            elif stat.S_ISREG(status.st_mode):
                files[path] = FileStat.of(status)
            elif stat.S_ISLNK(status.st_mode):
                linked = _follow(real_root, path)
                if isinstance(linked, str):
                    refused.append(f"{path!r}: {linked}")
                else:
                    files[path] = linked
            else:
                refused.append(f"{path!r}: {_kind(status.st_mode)}, which Crunch never opens")
    return Walk({path: files[path] for path in sorted(files)}, tuple(sorted(refused)))


def scan(root: Path, folder: str) -> list[os.DirEntry[str]]:
    """What is in one folder of the tree, nothing where it is not there. Raises WorkspaceError."""
    try:
        with os.scandir(root / folder) as entries:
            return list(entries)
    except FileNotFoundError:
        return []
    except OSError as error:
        raise WorkspaceError(f"The folder {folder or '.'!r} of {root} cannot be read: {error.strerror}") from error


def _follow(real_root: Path, path: str) -> FileStat | str:
    """What the link at `path` leads to, or why that cannot travel."""
    try:
        target = Path(os.path.realpath(real_root / path, strict=True))
        status = target.lstat()
    except FileNotFoundError:
        return "a link to nothing"
    except OSError as error:
        return f"a link that cannot be followed ({error.strerror})"
    if not target.is_relative_to(real_root):
        return "a link that leads out of the workspace; its target does not travel"
    if not stat.S_ISREG(status.st_mode):
        return f"a link to {_kind(status.st_mode)}; only links to files travel"
    return FileStat.of(status, target.relative_to(real_root).as_posix())


def _kind(mode: int) -> str:
    kinds = (
        (stat.S_ISDIR, "a folder"),
        (stat.S_ISFIFO, "a FIFO"),
        (stat.S_ISSOCK, "a socket"),
        (stat.S_ISCHR, "a device"),
        (stat.S_ISBLK, "a device"),
    )
    return next((name for test, name in kinds if test(mode)), "no regular file")
