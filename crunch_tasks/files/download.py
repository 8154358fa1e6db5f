"""From the storage into the workspace: hashed on the way, verified, and under its own name only when it is right.

What to fetch is decided in `plan`. A small file is verified in memory, then written to a partial name and renamed. A
large one grows in a partial file whose name says which version of which object it is: who comes back after an
interruption goes on where it ended.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import itertools
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from io import FileIO
from pathlib import Path

from crunch_tasks.errors import CrunchError, TransferError, WorkspaceError
from crunch_tasks.files import tree
from crunch_tasks.files.checksums import hash_walked
from crunch_tasks.files.parallel import Check, in_parallel
from crunch_tasks.files.paths import refuse_bad_names
from crunch_tasks.files.plan import LocalFile, ObjectInfo, Source, what_to_fetch
from crunch_tasks.files.storage import BLOCK, LARGE, Block, Storage
from crunch_tasks.files.sums import PartSum, sum_of_parts
from crunch_tasks.files.transfer import Meter, Tell, TransferReport, in_lanes, nobody, retrying
from crunch_tasks.files.tree import FileStat, Walk
from crunch_tasks.files.verify import Arrived, part_sum_for, verify
from crunch_tasks.files.workspace import Workspace

SPARE_BYTES = 16 * 1024 * 1024
"""Disk that a download leaves free, in bytes, for manifests and logs."""

_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_AGAIN = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC


@dataclass(frozen=True)
class Downloaded(TransferReport):
    """What a download did, with `skipped` files that were right already, and what the workspace has now."""

    skipped: int
    walk: Walk


def download(
    storage: Storage,
    sources: Mapping[str, Source],
    workspace: Workspace,
    *,
    check: Check = lambda: None,
    progress: Tell = nobody,
) -> Downloaded:
    """Bring every source to its path in the workspace; what is there and right is not fetched again.

    Everything is on the disk when this returns. Raises NamesRefused before anything is written, WorkspaceError when
    the disk is too small or cannot be written, TransferError, naming the object with both sums, when one cannot be
    had right.
    """
    sources, walk, wanted = look(storage, sources, workspace, check=check)
    _keep_partials(workspace.partial, [sources[path] for path in wanted])
    size = sum(sources[path].size for path in wanted)
    _check_space(workspace, size)
    fetcher = _Fetcher(storage, workspace, Meter(len(wanted), size, progress))
    kept = sources.keys() - set(wanted)
    try:
        retimed = [path for path in kept if _restore_mtime(workspace, path, walk.files[path], sources[path])]
        in_lanes(
            lambda path, check: fetcher.fetch(path, sources[path], check),
            {path: sources[path].size for path in wanted},
            storage,
            check,
        )
        if wanted or retimed:
            tree.sync(workspace.root)
            walk = workspace.walk()
            _remember(workspace, walk, sources, fetcher.sums)
    finally:
        workspace.hashes.save()
    return Downloaded(len(wanted), size, len(kept), walk)


def look(
    storage: Storage, sources: Mapping[str, Source], workspace: Workspace, *, check: Check = lambda: None
) -> tuple[Mapping[str, Source], Walk, list[str]]:
    """The sources with all that is known of them, what the workspace has, and the paths to fetch; changes nothing.

    Raises NamesRefused, and WorkspaceError for what cannot be read.
    """
    refuse_bad_names(sources, folds=workspace.folds)
    sources = _with_known_sums(sources, workspace)
    walk = workspace.walk()
    local = _local_files(walk, sources, workspace, storage.parallel, check)
    return sources, walk, what_to_fetch(local, sources)


def _remember(workspace: Workspace, walk: Walk, sources: Mapping[str, Source], sums: Mapping[str, str]) -> None:
    """Keep the MD5s of what was fetched, for the files that are still as they were written."""
    for path, md5 in sums.items():
        here = walk.files.get(path)
        if here and here.target is None and (here.size, here.mtime_ns) == (sources[path].size, sources[path].mtime_ns):
            workspace.hashes.put(path, here, md5)


def _with_known_sums(sources: Mapping[str, Source], workspace: Workspace) -> dict[str, Source]:
    known = workspace.known
    return {
        path: source if source.md5 else replace(source, md5=known.md5(source.key, source.size, source.tag))
        for path, source in sources.items()
    }


def _local_files(
    walk: Walk, sources: Mapping[str, Source], workspace: Workspace, parallel: int, check: Check
) -> dict[str, LocalFile]:
    """The regular files that are there for these sources, hashed where size and sum could match."""

    found, unknown = {}, []
    for path, source in sources.items():
        here = walk.files.get(path)
        if here is None:
            continue
        # A link is to become the file itself.
        found[path] = LocalFile(here.size, None if here.target else workspace.hashes.get(path, here))
        is_candidate = here.target is None and here.size == source.size and source.md5 is not None
        if is_candidate and found[path].md5 is None:
            unknown.append(path)

    def look(path: str, check: Check) -> LocalFile:
        check()
        here = walk.files[path]
        return LocalFile(here.size, hash_walked(workspace.root, path, here, workspace.hashes, check))

    return found | dict(zip(unknown, in_parallel(look, unknown, parallel, check), strict=True))


def _restore_mtime(workspace: Workspace, path: str, here: FileStat, source: Source) -> bool:
    """Whether it had another time."""
    if source.mtime_ns is None or source.mtime_ns == here.mtime_ns:
        return False
    status = tree.set_mtime(workspace.root, path, source.mtime_ns)
    if source.md5 is not None:
        workspace.hashes.put(path, status, source.md5)
    return True


def _check_space(workspace: Workspace, size: int) -> None:
    """Compare what is to come, less what is in partial files already, with the free disk."""
    here = sum(file.stat().st_size for file in workspace.partial.iterdir())
    needed, free = size - here + SPARE_BYTES, workspace.free_bytes()
    if size and needed > free:
        raise WorkspaceError(
            f"The disk of {workspace.directory} is too small: {needed} bytes are needed, {free} are free. "
            "Make room, or choose another --directory."
        )


def _partial_name(source: Source) -> str:
    """The same for as long as the object is this version of it and a kill is all that happened to this machine.

    After a power cut a partial file may have bytes that were never written. A sum finds that out; where none is known,
    the file is of this boot only.
    """
    is_provable = source.md5 or sum_of_parts(source.tag)
    boot = "" if is_provable else _boot_id()
    text = json.dumps([source.key, source.size, source.tag, source.md5, boot])
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _boot_id() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text("ascii")
    except OSError:
        return str(os.getpid())


def _keep_partials(folder: Path, wanted: list[Source]) -> None:
    """Remove what killed runs left, but for parts of these; the workspace's lock says that nobody is using it."""
    folder.mkdir(parents=True, exist_ok=True)
    keep = {_partial_name(source) for source in wanted if source.size > LARGE}
    for entry in folder.iterdir():
        if entry.name not in keep:
            entry.unlink()


class _Fetcher:
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
            partial = self._workspace.partial / _partial_name(source)
            self._meter.add(_size(partial))
            try:
                md5 = retrying(lambda: self._grow(source, path, partial, check), check, lambda: _size(partial))
            except WorkspaceError:
                # A disk that is full is not to be kept full.
                partial.unlink(missing_ok=True)
                raise
            check()
            with self._local_errors(path, source.size):
                tree.place(self._folders, partial, path)
            self._meter.add(0, files=1)
        else:
            md5 = retrying(lambda: self._write(source, path, check), check)
            self._meter.add(source.size, files=1)
        self._workspace.known.put(ObjectInfo(source.key, source.size, source.mtime_ns, None, source.tag), md5)
        self.sums[path] = md5

    def _write(self, source: Source, path: str, check: Check) -> str:
        """A small file, verified before it is written, to its place by way of a partial file; returns its MD5."""
        data = self._storage.read(source.key)
        md5 = hashlib.md5(data, usedforsecurity=False).hexdigest()
        verify(self._storage, source, Arrived(len(data), md5))
        check()
        name, at = f"small-{next(self._numbers)}", self._partials.descriptor
        with self._local_errors(path, source.size):
            descriptor = os.open(name, _NEW, 0o666, dir_fd=at)
            try:
                _write_all(descriptor, data)
                _set_mtime(descriptor, source)
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
                raise WorkspaceError(
                    f"The disk of {workspace.directory} is full: {path!r} needs {size} bytes, "
                    f"{workspace.free_bytes()} are free. Make room, or choose another --directory."
                ) from error
            raise WorkspaceError(
                f"{path!r} in {workspace.root} cannot be written: {error.strerror or error}"
            ) from error


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
