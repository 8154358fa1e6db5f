"""A workspace's files: read them, put them in place, remove them, and never follow a link while doing so.

A workflow may leave anything behind, such as a link from `results` to `/etc`. So every path is opened folder by
folder with O_NOFOLLOW, starting from the workspace's root, and only regular files are ever opened.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import secrets
import shutil
import stat
from collections.abc import Callable, Collection, Iterable
from io import FileIO
from pathlib import Path

from crunch_tasks.durable import TEMPORARY
from crunch_tasks.errors import WorkspaceError
from crunch_tasks.files.paths import INTERNAL_FOLDERS
from crunch_tasks.files.walking import FileStat, scan, walk

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# O_NONBLOCK: a FIFO that took a file's place must not hang its reader.
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class Folders:
    """The open folders of one tree, for many files one after another, from several threads.

    Good for as long as nobody removes folders of the tree: a file would be made in the removed one.
    """

    MOST = 64
    """How many stay open at once."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._kept: dict[str, _Folder] = {}

    def open(self, folder: str, *, make: bool) -> _Folder:
        """The folder, reached without following links; `make` clears the way and makes what is missing."""
        kept = self._kept.get(folder)
        if kept is None:
            if folder:
                above, _, name = folder.rpartition("/")
                parent = self.open(above, make=make)
                if make:
                    _make_folder(parent.descriptor, name)
                kept = _Folder(os.open(name, _FOLDER, dir_fd=parent.descriptor))
            else:
                kept = _Folder(os.open(self.root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))
            if len(self._kept) >= self.MOST:
                self._kept.clear()
            self._kept[folder] = kept
        return kept


class _Folder:
    """An open folder that closes when nobody has it any more: another thread may be using one that is not kept."""

    __slots__ = ("descriptor",)

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor

    def __del__(self, close: Callable[[int], None] = os.close) -> None:
        # Bound early: when the interpreter ends, `os` may be gone already.
        close(self.descriptor)


Tree = Path | Folders
"""A tree by its root, or by its open folders where many files follow one another."""


def _parent(tree: Tree, path: str, *, make: bool = False) -> tuple[_Folder, str]:
    """An open folder and a name in it for `path`, without following links; `make` clears the way and makes folders."""
    folders = tree if isinstance(tree, Folders) else Folders(tree)
    above, _, name = path.rpartition("/")
    return folders.open(above, make=make), name


def _make_folder(parent: int, name: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        if stat.S_ISDIR(os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode):
            return
        os.unlink(name, dir_fd=parent)
    with contextlib.suppress(FileExistsError):
        os.mkdir(name, dir_fd=parent)


def open_file(tree: Tree, path: str, walked: FileStat) -> FileIO:
    """Open a walked file for reading. Raises WorkspaceError when it is not that file any more, or cannot be read."""
    root = tree.root if isinstance(tree, Folders) else tree
    try:
        folder, name = _parent(tree, walked.target or path)
        descriptor = os.open(name, _READ, dir_fd=folder.descriptor)
    except OSError as error:
        raise WorkspaceError(
            f"{path!r} in {root} cannot be read ({error.strerror}): it changed, or its permissions are wrong"
        ) from error
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode) or FileStat.of(status, walked.target) != walked:
        os.close(descriptor)
        raise WorkspaceError(f"{path!r} in {root} changed while Crunch was reading the workspace")
    return FileIO(descriptor, "rb")


def is_still(file: FileIO, walked: FileStat) -> bool:
    """Whether nobody has written to the open file since it was walked."""
    return FileStat.of(os.fstat(file.fileno()), walked.target) == walked


def read_walked(tree: Tree, path: str, walked: FileStat) -> bytes:
    """All bytes of a walked file. Raises WorkspaceError as `open_file` does, and when it is being written to."""
    with open_file(tree, path, walked) as file:
        try:
            # One more than it has, so that a single call tells that it ends there.
            data = os.read(file.fileno(), walked.size + 1)
        except OSError as error:
            raise WorkspaceError(f"{path!r} cannot be read: {error.strerror}") from error
        is_same = len(data) == walked.size and is_still(file, walked)
    if not is_same:
        raise WorkspaceError(f"{path!r} changed while it was being read; run again when nothing writes to it")
    return data


def place(tree: Tree, partial: Path | str, path: str, *, dir_fd: int | None = None) -> None:
    """Move the finished file `partial` (on the same file system) to its name, replacing what is in its way.

    With `dir_fd`, `partial` is a name in that open folder.
    """
    folder, name = _parent(tree, path, make=True)
    try:
        os.rename(partial, name, src_dir_fd=dir_fd, dst_dir_fd=folder.descriptor)
    except IsADirectoryError:
        shutil.rmtree(name, dir_fd=folder.descriptor)
        os.rename(partial, name, src_dir_fd=dir_fd, dst_dir_fd=folder.descriptor)


def set_mtime(root: Path, path: str, mtime_ns: int) -> FileStat:
    """Give a regular file a modification time; returns what it is then."""
    folder, name = _parent(root, path)
    os.utime(name, ns=(mtime_ns, mtime_ns), dir_fd=folder.descriptor, follow_symlinks=False)
    return FileStat.of(os.stat(name, dir_fd=folder.descriptor, follow_symlinks=False))


def write_file(root: Path, path: str, data: bytes, *, durably: bool = True) -> None:
    """Write `path` whole: temporary file, fsync, rename, fsync of the folder. Not `durably`: without the two fsyncs,
    for what can be made again. Raises OSError.
    """
    folder, name = _parent(root, path, make=True)
    at = folder.descriptor
    temporary = f".{secrets.token_hex(8)}{TEMPORARY}"
    descriptor = os.open(temporary, _CREATE, 0o666, dir_fd=at)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            if durably:
                os.fsync(file.fileno())
        os.rename(temporary, name, src_dir_fd=at, dst_dir_fd=at)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary, dir_fd=at)
        raise
    if durably:
        os.fsync(at)


def read_file(root: Path, path: str) -> bytes | None:
    """The bytes of the regular file at `path`, or None when there is none, or a link or something else instead."""
    try:
        folder, name = _parent(root, path)
        descriptor = os.open(name, _READ, dir_fd=folder.descriptor)
    except OSError:
        return None
    with os.fdopen(descriptor, "rb") as file:
        return file.read() if stat.S_ISREG(os.fstat(file.fileno()).st_mode) else None


def remove_all_but(root: Path, keep: Collection[str]) -> list[str]:
    """Remove everything in the tree but the paths in `keep` and the internal folders; returns what was removed.

    Folders and links count as one each. Nothing outside the tree is touched.
    """
    kept = set(keep)
    kept_folders = {path[:end] for path in kept for end in range(len(path)) if path[end] == "/"}
    removed: list[str] = []
    folders = [""]
    while folders:
        folder = folders.pop()
        for entry in scan(root, folder):
            path = f"{folder}/{entry.name}" if folder else entry.name
            if not folder and entry.name in INTERNAL_FOLDERS:
                continue
            is_folder = entry.is_dir(follow_symlinks=False)
            if is_folder and path in kept_folders:
                folders.append(path)
            elif is_folder:
                shutil.rmtree(root / path)
                removed.append(path)
            elif path not in kept:
                (root / path).unlink()
                removed.append(path)
    return sorted(removed)


def sync(root: Path) -> None:
    """Return when everything written to the file system of `root` survives a power cut."""
    descriptor = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        syncfs = getattr(ctypes.CDLL(None, use_errno=True), "syncfs", None)
        if syncfs is None or syncfs(descriptor) != 0:
            os.sync()
    finally:
        os.close(descriptor)


def remove_torn(root: Path, folders: Iterable[str]) -> None:
    """Remove what a killed process left of `write_file` in these folders of the tree, as far as that is possible."""
    for below in folders:
        for path in walk(root, below=below, internal=True).files:
            if path.endswith(TEMPORARY):
                with contextlib.suppress(OSError):
                    folder, name = _parent(root, path)
                    os.unlink(name, dir_fd=folder.descriptor)
