"""MD5 sums: computed in a stream, remembered while a file stays untouched, and gathered into manifests.

Memory stays flat whatever a file's size, and threads help, as hashing releases Python's lock.
"""

from __future__ import annotations

import hashlib
import json
import os
import threading
import time
from collections.abc import Callable
from io import FileIO
from pathlib import Path

from crunch_tasks.errors import WorkspaceError
from crunch_tasks.files import tree
from crunch_tasks.files.manifest import Entry, Manifest
from crunch_tasks.files.parallel import Check, in_parallel
from crunch_tasks.files.paths import refuse_bad_names
from crunch_tasks.files.storage import BLOCK
from crunch_tasks.files.tree import FileStat, Walk

_CLOCK_TICK_NS = 20_000_000
"""Two writes within one tick of the file system's clock can leave the same time."""


class HashCache:
    """MD5 sums by path, valid while size, mtime, ctime and inode stay what they were. Safe to use from threads."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._known: dict[str, tuple[FileStat, str]] = {}
        try:
            body = json.loads(path.read_bytes())
            self._known = {name: (FileStat(*value[:4]), str(value[4])) for name, value in body.items()}
        except (OSError, ValueError, TypeError, IndexError, AttributeError):
            # A cache that cannot be read costs time, nothing else.
            self._known = {}

    def get(self, path: str, status: FileStat) -> str | None:
        """The MD5 of the file at `path` if it is still the file that was hashed."""
        known = self._known.get(path)
        return known[1] if known and known[0] == _without_target(status) else None

    def put(self, path: str, status: FileStat, md5: str) -> None:
        with self._lock:
            self._known[path] = (_without_target(status), md5)

    def save(self) -> None:
        """Write the cache, old or new as a whole whatever happens."""
        with self._lock:
            body = {
                path: [status.size, status.mtime_ns, status.ctime_ns, status.inode, md5]
                for path, (status, md5) in self._known.items()
            }
        tree.write_file(self._path.parent, self._path.name, json.dumps(body).encode())


def _without_target(status: FileStat) -> FileStat:
    return FileStat(status.size, status.mtime_ns, status.ctime_ns, status.inode)


class FileContent:
    """A local file as `Storage.send` reads it: hashed on the way, refused when it is not what was announced."""

    def __init__(
        self, file: FileIO, name: str, size: int, md5: str, on_bytes: Callable[[int], None] = lambda _: None
    ) -> None:
        self.size = size
        self.md5 = md5
        self._file = file
        self._name = name
        self._on_bytes = on_bytes
        self.rewind()

    def rewind(self) -> None:
        self._file.seek(0)
        self._hash = hashlib.md5(usedforsecurity=False)
        self._done = 0

    def read(self, size: int = -1, /) -> bytes:
        """At most `size` bytes, all when negative. Raises WorkspaceError when the file has other bytes by now."""
        try:
            data = self._file.read(size) or b""
        except OSError as error:
            raise WorkspaceError(f"{self._name!r} cannot be read: {error.strerror}") from error
        self._hash.update(data)
        self._done += len(data)
        self._on_bytes(len(data))
        ended = not data or size < 0
        if self._done > self.size or (ended and size != 0 and not self.is_verified):
            raise WorkspaceError(f"{self._name!r} changed while it was being sent; run again when nothing writes to it")
        return data

    @property
    def is_verified(self) -> bool:
        """Whether all of it was read and was what was announced."""
        return self._done == self.size and self._hash.hexdigest() == self.md5


def hash_file(file: FileIO, check: Check = lambda: None) -> str:
    """The MD5 of an open file's bytes, in lower-case hex; `check` is called between blocks and may raise."""
    digest = hashlib.md5(usedforsecurity=False)
    while block := file.read(BLOCK):
        digest.update(block)
        check()
    return digest.hexdigest()


def hash_walked(root: Path, path: str, walked: FileStat, cache: HashCache, check: Check) -> str:
    """The MD5 of a walked file, from the cache when it is untouched. Raises WorkspaceError, naming it."""
    known = cache.get(path, walked)
    if known is not None:
        return known
    with tree.open_file(root, path, walked) as file:
        try:
            md5 = hash_file(file, check)
        except OSError as error:
            raise WorkspaceError(f"{path!r} in {root} cannot be read: {error.strerror}") from error
        if FileStat.of(os.fstat(file.fileno()), walked.target) != walked:
            raise WorkspaceError(f"{path!r} in {root} changed while it was being hashed")
    if time.time_ns() - max(walked.mtime_ns, walked.ctime_ns) > _CLOCK_TICK_NS:
        cache.put(path, walked, md5)
    return md5


def compute_manifest(
    root: Path, walk: Walk, cache: HashCache, *, folds: bool = False, check: Check = lambda: None
) -> Manifest:
    """The manifest of a walked workspace; unchanged files are not hashed again. Saves the cache.

    Raises NamesRefused for names that cannot be kept, WorkspaceError for files that changed or cannot be read.
    """
    refuse_bad_names(walk.files, folds=folds)

    def entry(path: str, check: Check) -> Entry:
        check()
        walked = walk.files[path]
        return Entry(hash_walked(root, path, walked, cache, check), walked.size, walked.mtime_ns)

    try:
        # Twice the cores: while one thread waits for the disk another one hashes.
        entries = in_parallel(entry, walk.files, 2 * (os.cpu_count() or 1), check)
    finally:
        cache.save()
    return Manifest(dict(zip(walk.files, entries, strict=True)))


def fingerprint(walk: Walk) -> str:
    """A text that changes whenever a walked file may have changed: the key for a cached manifest, in hex."""
    digest = hashlib.sha256()
    for path, file in walk.files.items():
        digest.update(json.dumps([path, file.size, file.mtime_ns, file.ctime_ns, file.inode, file.target]).encode())
    return digest.hexdigest()
