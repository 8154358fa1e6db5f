"""Move files between storage and workspace: many at once, hashed on the way, verified, retried, never half.

What to move is decided in `plan`; here it is done. A download goes to a partial name first and gets its own name when
it is right; an upload is read to its verified end before the storage publishes it.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import random
import secrets
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from crunch_tasks.errors import CrunchError, TransferError, WorkspaceError
from crunch_tasks.files import tree
from crunch_tasks.files.checksums import FileContent, hash_walked
from crunch_tasks.files.manifest import Entry
from crunch_tasks.files.parallel import Check, in_parallel
from crunch_tasks.files.paths import refuse_bad_names
from crunch_tasks.files.plan import LocalFile, ObjectInfo, Source, what_to_fetch
from crunch_tasks.files.storage import Storage
from crunch_tasks.files.tree import FileStat, Walk
from crunch_tasks.files.workspace import Workspace

TRIES = 4
FIRST_PAUSE_S = 0.2
SPARE_BYTES = 16 * 1024 * 1024
"""Disk that a download leaves free, in bytes, for manifests and logs."""

MayWrite = Callable[[float], None]
"""Called before each write with the seconds it may take; raises LeaseLost when less lease is left than that."""


@dataclass(frozen=True)
class Progress:
    """How far a transfer is: files and bytes, done and in all."""

    files_done: int
    files: int
    bytes_done: int
    bytes: int


@dataclass(frozen=True)
class TransferReport:
    """What a transfer did: files moved, their bytes, and files that were right already."""

    moved: int
    bytes: int
    skipped: int


R = TypeVar("R")


class _Meter:
    """Counts what the threads move and tells it on, not more often than a person can see."""

    def __init__(self, files: int, size: int, progress: Callable[[Progress], None]) -> None:
        self._state = Progress(0, files, 0, size)
        self._progress = progress
        self._lock = threading.Lock()
        self._told = 0.0

    def add(self, size: int, files: int = 0) -> None:
        with self._lock:
            state = self._state
            self._state = replace(state, files_done=state.files_done + files, bytes_done=state.bytes_done + size)
            now = time.monotonic()
            if now - self._told >= 0.1 or self._state.files_done == self._state.files:
                self._told = now
                self._progress(self._state)


def download(
    storage: Storage,
    sources: Mapping[str, Source],
    workspace: Workspace,
    *,
    check: Check = lambda: None,
    progress: Callable[[Progress], None] = lambda _: None,
) -> TransferReport:
    """Bring every source to its path in the workspace; what is there and right is not fetched again.

    Everything is on the disk when this returns. Raises NamesRefused before anything is written, WorkspaceError when
    the disk is too small or cannot be written, TransferError, naming the object with both sums, when one cannot be
    had right.
    """
    refuse_bad_names(sources, folds=workspace.folds)
    sources = _with_known_sums(sources, workspace)
    walk = workspace.walk()
    local = _local_files(walk, sources, workspace, storage.parallel, check)
    wanted = what_to_fetch(local, sources)
    size = sum(sources[path].size for path in wanted)
    _check_space(workspace, size)
    _clear(workspace.partial)
    meter = _Meter(len(wanted), size, progress)

    def fetch(path: str, check: Check) -> None:
        source = sources[path]
        md5, status = _retrying(lambda: _fetch(storage, source, path, workspace, check, meter), check)
        workspace.hashes.put(path, status, md5)
        workspace.known.put(ObjectInfo(source.key, source.size, source.mtime_ns, None, source.tag), md5)
        meter.add(0, files=1)

    try:
        for path in sources.keys() - set(wanted):
            _restore_mtime(workspace, path, walk.files[path], sources[path])
        in_parallel(fetch, _largest_first(wanted, sources), storage.parallel, check)
        tree.sync(workspace.root)
    finally:
        workspace.hashes.save()
    return TransferReport(len(wanted), size, len(sources) - len(wanted))


def _with_known_sums(sources: Mapping[str, Source], workspace: Workspace) -> dict[str, Source]:
    infos = [
        ObjectInfo(source.key, source.size, source.mtime_ns, source.md5, source.tag) for source in sources.values()
    ]
    filled = workspace.known.fill_in(infos)
    return {path: replace(source, md5=info.md5) for (path, source), info in zip(sources.items(), filled, strict=True)}


def _local_files(
    walk: Walk, sources: Mapping[str, Source], workspace: Workspace, parallel: int, check: Check
) -> dict[str, LocalFile]:
    """The regular files that are there for these sources, hashed where size and sum could match."""

    def look(path: str, check: Check) -> tuple[str, LocalFile]:
        check()
        here, source = walk.files[path], sources[path]
        is_candidate = here.target is None and here.size == source.size and source.md5 is not None
        md5 = hash_walked(workspace.root, path, here, workspace.hashes, check) if is_candidate else None
        return path, LocalFile(here.size, md5)

    return dict(in_parallel(look, [path for path in sources if path in walk.files], parallel, check))


def _restore_mtime(workspace: Workspace, path: str, here: FileStat, source: Source) -> None:
    if source.mtime_ns is None or source.mtime_ns == here.mtime_ns:
        return
    status = tree.set_mtime(workspace.root, path, source.mtime_ns)
    if source.md5 is not None:
        workspace.hashes.put(path, status, source.md5)


def _check_space(workspace: Workspace, needed: int) -> None:
    free = workspace.free_bytes()
    if needed and needed + SPARE_BYTES > free:
        raise WorkspaceError(
            f"The disk of {workspace.directory} is too small: {needed + SPARE_BYTES} bytes are needed, {free} are "
            "free. Make room, or choose another --directory."
        )


def _clear(folder: Path) -> None:
    """Remove what a killed run left; the workspace's lock says that nobody is using it."""
    folder.mkdir(parents=True, exist_ok=True)
    for entry in folder.iterdir():
        entry.unlink()


def _largest_first(paths: Iterable[str], sources: Mapping[str, Source]) -> list[str]:
    """So that the last thread to finish is not the one that began the largest file last."""
    return sorted(paths, key=lambda path: -sources[path].size)


def _fetch(
    storage: Storage, source: Source, path: str, workspace: Workspace, check: Check, meter: _Meter
) -> tuple[str, FileStat]:
    partial = workspace.partial / secrets.token_hex(8)
    digest = hashlib.md5(usedforsecurity=False)
    done = 0
    try:
        with _local_errors(workspace, path, source.size), partial.open("xb", buffering=0) as file:
            for block in storage.iter_bytes(source.key):
                check()
                file.write(block)
                digest.update(block)
                done += len(block)
                meter.add(len(block))
            if source.mtime_ns is not None:
                os.utime(file.fileno(), ns=(source.mtime_ns, source.mtime_ns))
        _verify(storage, source, done, digest.hexdigest())
        check()
        with _local_errors(workspace, path, source.size):
            return digest.hexdigest(), tree.place(workspace.root, partial, path)
    except BaseException:
        meter.add(-done)
        partial.unlink(missing_ok=True)
        raise


def _verify(storage: Storage, source: Source, size: int, md5: str) -> None:
    if size != source.size:
        raise TransferError(
            f"{source.key!r} arrived with {size} bytes instead of {source.size}: it was cut short, or it changed"
        )
    if md5 == source.md5:
        return
    # A sum from a listing may be none, as the storage says when it is asked: S3 with some encryptions.
    tells_none = source.md5 is None or (source.md5 in (source.tag or "") and not storage.tells_md5(source.key))
    if not tells_none:
        raise TransferError(f"{source.key!r} arrived wrong: its MD5 is {md5}, expected {source.md5}")
    now = storage.stat(source.key)
    if now is None or now.tag != source.tag:
        raise TransferError(f"{source.key!r} changed while it was being read; run again when nothing writes to it")


@contextlib.contextmanager
def _local_errors(workspace: Workspace, path: str, size: int) -> Iterator[None]:
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
        raise WorkspaceError(f"{path!r} in {workspace.root} cannot be written: {error.strerror or error}") from error


def upload(
    storage: Storage,
    sends: Mapping[str, str],
    workspace: Workspace,
    walk: Walk,
    entries: Mapping[str, Entry],
    *,
    may_write: MayWrite = lambda _: None,
    check: Check = lambda: None,
    progress: Callable[[Progress], None] = lambda _: None,
) -> TransferReport:
    """Send each walked path in `sends` to its key; `entries` say what the files must be.

    Raises WorkspaceError for a file that changed or cannot be read, TransferError or StorageError for an object that
    cannot be stored, and what `may_write` and `check` raise.
    """
    size = sum(entries[path].size for path in sends)
    meter = _Meter(len(sends), size, progress)

    def send_once(path: str, check: Check) -> ObjectInfo:
        entry, sent = entries[path], 0

        def count(size: int) -> None:
            nonlocal sent
            check()
            sent += size
            meter.add(size)

        def before_commit() -> None:
            check()
            may_write(storage.timeout_s)

        try:
            with tree.open_file(workspace.root, path, walk.files[path]) as file:
                return storage.send(FileContent(file, path, entry.size, entry.md5, count), sends[path], before_commit)
        except BaseException:
            meter.add(-sent)
            raise

    def send(path: str, check: Check) -> None:
        info = _retrying(lambda: send_once(path, check), check)
        workspace.known.put(info, entries[path].md5)
        meter.add(0, files=1)

    in_parallel(send, sorted(sends, key=lambda path: -entries[path].size), storage.parallel, check)
    return TransferReport(len(sends), size, 0)


def _retrying(work: Callable[[], R], check: Check) -> R:
    """Do the work, again with growing pauses while its errors say that this can help."""
    for again in range(1, TRIES + 1):
        check()
        try:
            return work()
        except CrunchError as error:
            if not error.retryable or again == TRIES:
                raise
        time.sleep(FIRST_PAUSE_S * 2 ** (again - 1) * random.uniform(0.5, 1.5))  # noqa: S311
    raise TransferError
