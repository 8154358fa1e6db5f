"""One file from the storage to its place: hashed on the way, verified, and under its own name only when it is right.

A small file is verified in memory, then written to a partial name and renamed. A large one grows in a partial file
whose name says which version of which object it is: who comes back after an interruption goes on where it ended.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import itertools
import json
import os
from collections.abc import Iterator
from io import FileIO
from pathlib import Path

from crunch_tasks.crash import Point, reached
from crunch_tasks.durable import TEMPORARY
from crunch_tasks.errors import CrunchError, NoRoom, TransferError, WorkspaceError
from crunch_tasks.files import tree
from crunch_tasks.files.parallel import Check
from crunch_tasks.files.plan import ObjectInfo, Source
from crunch_tasks.files.storage import BLOCK, LARGE, Block, Storage
from crunch_tasks.files.sums import PartSum
from crunch_tasks.files.transfer import Meter, retrying
from crunch_tasks.files.verify import Arrived, part_sum_for, verify
from crunch_tasks.files.workspace import Workspace

_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_AGAIN = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC


class Fetcher:
    """Brings one file after another, in several threads; `sums` has the MD5 of each that is in its place."""

    def __init__(self, storage: Storage, workspace: Workspace, meter: Meter) -> None:
        self.sums: dict[str, str] = {}
        self._storage = storage
        self._workspace = workspace
        self._meter = meter
        self._folders = tree.Folders(workspace.root)
        self._partials = tree.Folders(workspace.partial).open("", make=False)
        self._numbers = itertools.count()

    def fetch(self, path: str, source: Source, check: Check) -> None:
        """Bring one file to its path, verified; again while that can help."""
        if source.size > LARGE:
            partial = self._workspace.partial / partial_name(source)
            self._meter.add(_size(partial))
            try:
                md5 = retrying(lambda: self._grow(source, path, partial, check), check, lambda: _size(partial))
            except WorkspaceError:
                # A disk that is full is not to be kept full.
                partial.unlink(missing_ok=True)
                raise
            check()
            reached(Point.FILE_WRITTEN)
            with self._local_errors(path, source.size):
                tree.place(self._folders, partial, path)
            self._meter.add(0, files=1)
        else:
            md5 = retrying(lambda: self._write(source, path, check), check)
            self._meter.add(source.size, files=1)
        reached(Point.FILE_PLACED)
        self._workspace.known.put(ObjectInfo(source.key, source.size, source.mtime_ns, None, source.tag), md5)
        self.sums[path] = md5

    def _write(self, source: Source, path: str, check: Check) -> str:
        """A small file, verified before it is written, to its place by way of a temporary one; returns its MD5."""
        data = self._storage.read(source.key)
        md5 = hashlib.md5(data, usedforsecurity=False).hexdigest()
        verify(self._storage, source, Arrived(len(data), md5))
        check()
        name, at = f".{next(self._numbers)}{TEMPORARY}", self._partials.descriptor
        with self._local_errors(path, source.size):
            descriptor = os.open(name, _NEW, 0o666, dir_fd=at)
            try:
                _write_all(descriptor, data)
                _set_mtime(descriptor, source)
                reached(Point.FILE_WRITTEN)
                tree.place(self._folders, name, path, dir_fd=at)
            except BaseException:
                os.unlink(name, dir_fd=at)
                raise
            finally:
                os.close(descriptor)
        return md5

    def _grow(self, source: Source, path: str, partial: Path, check: Check) -> str:
        """The rest of a large file into its partial file, which stays when that is interrupted; returns its MD5."""
        digest, parts, done = hashlib.md5(usedforsecurity=False), part_sum_for(source), 0
        with self._local_errors(path, source.size), FileIO(os.open(partial, _AGAIN, 0o666), "r+b") as file:
            # What is there already is read first; the rest is asked for from where that ends.
            for block in itertools.chain(_blocks(file), self._arriving(source, file, check)):
                digest.update(block)
                if parts:
                    parts.update(block)
                done += len(block)
            try:
                verify(self._storage, source, Arrived(done, digest.hexdigest(), parts, lambda part: _resum(file, part)))
            except TransferError:
                self._meter.add(-done)
                file.truncate(0)
                raise
            _set_mtime(file.fileno(), source)
        return digest.hexdigest()

    def _arriving(self, source: Source, file: FileIO, check: Check) -> Iterator[Block]:
        """The bytes that the file does not have yet, each block in it before it is handed on."""
        for block in self._storage.iter_bytes(source, file.tell()):
            check()
            _write_all(file.fileno(), block)
            reached(Point.BLOCK_WRITTEN)
            self._meter.add(len(block))
            yield block

    @contextlib.contextmanager
    def _local_errors(self, path: str, size: int) -> Iterator[None]:
        workspace = self._workspace
        try:
            yield
        except CrunchError:
            raise
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise NoRoom(
                    f"The disk of {workspace.root} is full: {path!r} needs {size} bytes, "
                    f"{workspace.free_bytes()} are free. Make room, or {workspace.remedy}."
                ) from error
            raise WorkspaceError(
                f"{path!r} in {workspace.root} cannot be written: {error.strerror or error}"
            ) from error


def partial_name(source: Source) -> str:
    """The same for as long as the object is this version of it and a kill is all that happened to this machine.

    After a power cut a partial file may have bytes that were never written. An MD5 that was published finds that out;
    where the storage's word is all there is, which may prove nothing, the file is of this boot only.
    """
    boot = "" if source.is_md5_published else _boot_id()
    text = json.dumps([source.key, source.size, source.tag, source.md5, boot])
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _boot_id() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text("ascii")
    except OSError:
        return str(os.getpid())


def _blocks(file: FileIO) -> Iterator[bytes]:
    file.seek(0)
    while block := file.read(BLOCK):
        yield block


def _resum(file: FileIO, part: int) -> str:
    """The sum of the file's parts, had they been of `part` bytes."""
    again = PartSum(part)
    for block in _blocks(file):
        again.update(block)
    return again.result()


def _write_all(descriptor: int, data: Block) -> None:
    """A full disk takes some of the bytes first, and says so at the next write only."""
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def _set_mtime(descriptor: int, source: Source) -> None:
    if source.mtime_ns is not None:
        os.utime(descriptor, ns=(source.mtime_ns, source.mtime_ns))


def _size(file: Path) -> int:
    try:
        return file.stat().st_size
    except FileNotFoundError:
        return 0
