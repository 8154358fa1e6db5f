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
from crunch_tasks.files.sums import PartSum
from crunch_tasks.files.tree import Folders, Tree
from crunch_tasks.files.walking import FileStat, Walk

_SMALL = 128 * 1024
"""Bytes that are hashed in less time than it takes to open two files."""

_CLOCK_TICK_NS = 20_000_000
"""Two writes within one tick of the file system's clock can leave the same time."""


class HashCache:
    """MD5 sums by path, valid while size, mtime, ctime and inode stay what they were. Safe to use from threads.

    Of large files it also keeps what an object store will make of their parts (`sums.PartSum`), "" where nobody asked.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._known: dict[str, tuple[FileStat, str, str]] = {}
        self._is_saved = True
        try:
            body = json.loads(path.read_bytes())
            self._known = {name: (FileStat(*value[:4]), str(value[4]), str(value[5])) for name, value in body.items()}
        except (OSError, ValueError, TypeError, IndexError, AttributeError):
            # A cache that cannot be read costs time, nothing else.
            self._known = {}

    def get(self, path: str, status: FileStat) -> str | None:
        """The MD5 of the file at `path` if it is still the file that was hashed."""
        return self._sums(path, status)[0] or None

    def parts(self, path: str, status: FileStat) -> str:
        """The sum of its parts if it is still the file that was hashed and somebody asked for that then, else ""."""
        return self._sums(path, status)[1]

    def _sums(self, path: str, status: FileStat) -> tuple[str, str]:
        known = self._known.get(path)
        return known[1:] if known and known[0] == _without_target(status) else ("", "")

    def has_all(self, walk: Walk) -> bool:
        """Whether no file of the walk would have to be hashed."""
        return all(self.get(path, walked) for path, walked in walk.files.items())

    def put(self, path: str, status: FileStat, md5: str, parts: str = "") -> None:
        with self._lock:
            self._known[path] = (_without_target(status), md5, parts)
            self._is_saved = False

    def learn(self, path: str, walked: FileStat, md5: str, parts: str = "") -> None:
        """Remember what was just read, unless a write in the same tick of the file system's clock would not show."""
        if time.time_ns() - max(walked.mtime_ns, walked.ctime_ns) > _CLOCK_TICK_NS:
            self.put(path, walked, md5, parts)

    def save(self) -> None:
        """Write the cache if it has news, old or new as a whole whatever happens."""
        if self._is_saved:
            return
        with self._lock:
            self._is_saved = True
            body = {
                path: [status.size, status.mtime_ns, status.ctime_ns, status.inode, md5, parts]
                for path, (status, md5, parts) in self._known.items()
            }
        tree.write_file(self._path.parent, self._path.name, json.dumps(body).encode())


def _without_target(status: FileStat) -> FileStat:
    return status if status.target is None else FileStat(status.size, status.mtime_ns, status.ctime_ns, status.inode)


class FileContent:
    """A local file as `Storage.send` reads it: hashed on the way, refused when it is not what was announced.

    Without an announced `md5` it is what was read when it was read to its end. With the sum of its `parts` it is not
    hashed again: the storage's answer tells whether they arrived.
    """

    def __init__(
        self,
        file: FileIO,
        name: str,
        size: int,
        md5: str | None,
        on_bytes: Callable[[int], None] = lambda _: None,
        parts: str = "",
    ) -> None:
        self.size = size
        self.parts = parts
        self._md5 = md5
        self._file = file
        self._name = name
        self._on_bytes = on_bytes
        self.rewind()

    @property
    def md5(self) -> str:
        return self._md5 or self._hash.hexdigest()

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
        if not self.parts:
            self._hash.update(data)
        self._done += len(data)
        self._on_bytes(len(data))
        ended = not data or size < 0
        if self._done > self.size or (ended and size != 0 and not self.is_verified):
            raise WorkspaceError(changed(self._name))
        return data

    @property
    def is_verified(self) -> bool:
        """Whether all of it was read and was what was announced."""
        return self._done == self.size and (bool(self.parts) or self._hash.hexdigest() == self.md5)


def changed(path: str) -> str:
    """What to say of a file that has other bytes than its manifest says."""
    return f"{path!r} changed while it was being sent; run again when nothing writes to it"


def hash_file(file: FileIO, size: int, check: Check = lambda: None, part: int | None = None) -> tuple[str, str]:
    """The MD5 of an open file's bytes, in lower-case hex, and with `part` the sum of parts of so many bytes, else "".

    `size` is how many bytes there should be: small files need no memory for a whole block, which takes longer than to
    read. `check` is called between blocks and may raise.
    """
    digest = hashlib.md5(usedforsecurity=False)
    parts = PartSum(part) if part else None
    while block := file.read(min(BLOCK, size + 1)):
        digest.update(block)
        if parts:
            parts.update(block)
        check()
    return digest.hexdigest(), parts.result() if parts else ""


def hash_walked(
    root: Tree, path: str, walked: FileStat, cache: HashCache, check: Check, part: int | None = None
) -> str:
    """The MD5 of a walked file, from the cache when it is untouched. Raises WorkspaceError, naming it.

    With `part`, the cache gets the sum of its parts too.
    """
    known = cache.get(path, walked)
    if known is not None:
        return known
    with tree.open_file(root, path, walked) as file:
        try:
            md5, parts = hash_file(file, walked.size, check, part)
        except OSError as error:
            raise WorkspaceError(f"{path!r} cannot be read: {error.strerror}") from error
        if not tree.is_still(file, walked):
            raise WorkspaceError(f"{path!r} changed while it was being hashed; run again when nothing writes to it")
    cache.learn(path, walked, md5, parts)
    return md5


def compute_manifest(
    root: Path,
    walk: Walk,
    cache: HashCache,
    *,
    folds: bool = False,
    part_size: Callable[[int], int | None] = lambda _: None,
    check: Check = lambda: None,
) -> Manifest:
    """The manifest of a walked workspace; unchanged files are not hashed again. Saves the cache.

    `part_size` says in parts of how many bytes a file of so many bytes will be sent, if its sum is to be known then.

    Raises NamesRefused for names that cannot be kept, WorkspaceError for files that changed or cannot be read.
    """
    refuse_bad_names(walk.files, folds=folds)

    folders = Folders(root)

    def hash_one(path: str, check: Check) -> str:
        check()
        walked = walk.files[path]
        return hash_walked(folders, path, walked, cache, check, part_size(walked.size))

    known = {path: md5 for path, walked in walk.files.items() if (md5 := cache.get(path, walked))}
    new = [path for path in walk.files if path not in known]
    try:
        for paths, threads in (
            # Of small files, opening takes most of the time, and Python opens one at a time: more threads are slower.
            ([path for path in new if walk.files[path].size <= _SMALL], 2),
            # Twice the cores: while one thread waits for the disk another one hashes.
            ([path for path in new if walk.files[path].size > _SMALL], 2 * (os.cpu_count() or 1)),
        ):
            known |= zip(paths, in_parallel(hash_one, paths, threads, check), strict=True)
    finally:
        cache.save()
    return Manifest({path: Entry(known[path], walked.size, walked.mtime_ns) for path, walked in walk.files.items()})


def fingerprint(walk: Walk) -> str:
    """A text that changes whenever a walked file may have changed: the key for a cached manifest, in hex."""
    digest = hashlib.sha256()
    for path, file in walk.files.items():
        # `repr` of a name has no line end, so each file is one line whatever it is called.
        line = f"{path!r} {file.size} {file.mtime_ns} {file.ctime_ns} {file.inode} {file.target!r}\n"
        digest.update(line.encode("utf-8", "surrogatepass"))
    return digest.hexdigest()
