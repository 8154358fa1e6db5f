"""Any other Django storage (SFTP, a site's own class), through its own `open` and `save`, one instance a thread.

Such storages may rename, may write in place and tell no checksum. So an old object is deleted before it is saved
anew, the name that comes back is compared, and what was stored is read back.
"""

from __future__ import annotations

import contextlib
import hashlib
import posixpath
import secrets
import tempfile
import threading
from collections.abc import Callable, Iterator
from typing import Any

from django.core.exceptions import SuspiciousOperation
from django.core.files.base import File
from django.core.files.storage import FileSystemStorage, InMemoryStorage

from crunch_tasks.contract import CRUNCH_FOLDER
from crunch_tasks.errors import (
    CrunchError,
    NamesRefused,
    ObjectMissing,
    RenamingStorage,
    StorageError,
    TransferError,
)
from crunch_tasks.files.storage import BLOCK, Content, ObjectInfo, Source

_OVERWRITE = {"file_overwrite": True, "overwrite_files": True}
"""Switches of django-storages' classes that make them overwrite instead of renaming."""


class DjangoStorage:
    """The Storage interface over a Django storage object."""

    def __init__(self, make: Callable[[], Any], first: Any, timeout_s: float) -> None:
        """`make` builds another instance; `first` is one that was built already."""
        self.description = f"{type(first).__module__}.{type(first).__qualname__}"
        self.timeout_s = timeout_s
        # Each instance of an in-memory storage has its own files, so all threads must share one.
        self._shared = first if isinstance(first, InMemoryStorage) else None
        self.parallel = self.parallel_large = 1 if self._shared is not None else 4
        self._make = make
        self._local = threading.local()
        self._lock = threading.RLock()
        self._folders: set[str] = set()

    @property
    def _storage(self) -> Any:
        if self._shared is not None:
            return self._shared
        storage = getattr(self._local, "storage", None)
        if storage is None:
            storage = self._make()
            for name, value in _OVERWRITE.items():
                if hasattr(storage, name):
                    setattr(storage, name, value)
            if isinstance(storage, FileSystemStorage):
                storage._allow_overwrite = True  # type: ignore[attr-defined]
            self._local.storage = storage
        return storage

    @contextlib.contextmanager
    def _using(self, key: str) -> Iterator[Any]:
        """This thread's instance; whatever it raises becomes one of our errors, naming the key."""
        try:
            if self._shared is not None:
                with self._lock:
                    yield self._shared
            else:
                yield self._storage
        except CrunchError:
            raise
        except FileNotFoundError as error:
            raise ObjectMissing(f"{key!r} is not in the storage") from error
        except SuspiciousOperation as error:
            raise StorageError(f"The storage {self.description} refuses {key!r}: {error}") from error
        except Exception as error:
            reason = f"{type(error).__name__}: {error}".rstrip(": ")
            raise TransferError(f"{key!r} in {self.description}: {reason}") from error

    def list_objects(self, prefix: str) -> Iterator[ObjectInfo]:
        folders = [prefix.removesuffix("/")]
        while folders:
            folder = folders.pop()
            names, files = self._listdir(folder)
            strange = [name for name in names if name in ("", ".", "..") or "/" in name]
            if strange:
                raise NamesRefused([f"below {folder!r}: there are folders called {name!r}" for name in strange])
            folders += [posixpath.join(folder, name) for name in names]
            for name in files:
                info = self._listed(posixpath.join(folder, name)) if name else None
                if info is not None:
                    yield info

    def _listed(self, key: str) -> ObjectInfo | None:
        """What is there, or None when it was removed since its folder was read."""
        try:
            return self._info(key)
        except ObjectMissing:
            return None

    def _listdir(self, folder: str) -> tuple[list[str], list[str]]:
        try:
            with self._using(folder) as storage:
                folders, files = storage.listdir(folder)
                return list(folders), list(files)
        except ObjectMissing:
            return [], []

    def _info(self, key: str) -> ObjectInfo:
        with self._using(key) as storage:
            size = storage.size(key)
            try:
                mtime_ns = int(storage.get_modified_time(key).timestamp() * 1_000_000) * 1000
            except NotImplementedError:
                mtime_ns = None
            return ObjectInfo(key, size, mtime_ns)

    def stat(self, key: str) -> ObjectInfo | None:
        with self._using(key) as storage:
            if not storage.exists(key):
                return None
        return self._listed(key)

    def tells_md5(self, key: str) -> bool:  # noqa: ARG002
        """Django's interface tells no MD5 that could be in doubt."""
        return True

    def content_md5(self, key: str) -> None:
        """It keeps none."""

    def part_size(self, size: int) -> None:
        """It sends files as a whole."""

    def part_of(self, source: Source) -> None:
        """Django's interface knows of no parts."""

    def read(self, key: str) -> bytes:
        with self._using(key) as storage, storage.open(key, "rb") as file:
            return bytes(file.read())

    def iter_bytes(self, source: Source, start: int = 0) -> Iterator[bytes]:
        return self._blocks(source.key, start)

    def _blocks(self, key: str, start: int = 0) -> Iterator[bytes]:
        with self._using(key) as storage, storage.open(key, "rb") as file:
            if start:
                file.seek(start)
            while block := file.read(BLOCK):
                yield block

    def send(self, content: Content, key: str, before_commit: Callable[[], None]) -> ObjectInfo:
        content.rewind()
        self._save(key, _ContentFile(content, key), before_commit)
        self._read_back(key, content.md5)
        info = self._info(key)
        return ObjectInfo(key, info.size, info.mtime_ns, content.md5)

    def _save(self, key: str, file: Any, before_commit: Callable[[], None]) -> None:
        with self._alone_in_new_folder(key), self._using(key) as storage:
            before_commit()
            if storage.exists(key):
                storage.delete(key)
            try:
                name = storage.save(key, file)
            except BaseException:
                # Most such storages write in place, so what there is now is a part.
                with contextlib.suppress(Exception):
                    storage.delete(key)
                raise
            if name != key:
                storage.delete(name)
                raise RenamingStorage(
                    f"The storage {self.description} kept {key!r} as {name!r}; use one that overwrites and keeps names"
                )

    @contextlib.contextmanager
    def _alone_in_new_folder(self, key: str) -> Iterator[None]:
        """Save the first file of a folder alone: storages look for a folder, then make it, and two at once fail."""
        folder = posixpath.dirname(key)
        if folder in self._folders:
            yield
            return
        with self._lock:
            yield
            self._folders.add(folder)

    def _read_back(self, key: str, md5: str) -> None:
        digest = hashlib.md5(usedforsecurity=False)
        for block in self._blocks(key):
            digest.update(block)
        if digest.hexdigest() != md5:
            self.delete(key)
            raise TransferError(f"{key!r} did not arrive as it was sent: MD5 {md5} sent, {digest.hexdigest()} stored")

    def write(self, key: str, data: bytes, md5: str | None = None) -> ObjectInfo:
        with tempfile.SpooledTemporaryFile(max_size=len(data) + 1) as file:
            file.write(data)
            file.seek(0)
            self._save(key, File(file, name=key), lambda: None)
        self._read_back(key, md5 or hashlib.md5(data, usedforsecurity=False).hexdigest())
        return self._info(key)

    def signed_put(self, key: str, name: str, size: int, md5: str) -> None:
        """Django's interface has no such thing."""

    def copy(self, source: str, target: str) -> None:
        digest = hashlib.md5(usedforsecurity=False)
        with tempfile.TemporaryFile() as file:
            for block in self._blocks(source):
                digest.update(block)
                file.write(block)
            file.seek(0)
            self._save(target, File(file, name=target), lambda: None)
        self._read_back(target, digest.hexdigest())

    def delete(self, key: str) -> None:
        with contextlib.suppress(ObjectMissing), self._using(key) as storage:
            storage.delete(key)

    def remove_unfinished(self, prefix: str, is_ours: Callable[[str], bool]) -> None:
        """Django's interface has no such thing."""

    def flush(self) -> None:
        """Django's interface has no such thing."""

    def check_overwrites(self, prefix: str) -> None:
        """Save a small object twice and look where it went."""
        key = f"{prefix}{CRUNCH_FOLDER}/overwrite-check-{secrets.token_hex(8)}"
        try:
            self.write(key, b"1")
            self.write(key, b"2")
        finally:
            self.delete(key)


class _ContentFile(File):  # type: ignore[type-arg]
    """Content as the file object that a Django storage saves from."""

    def __init__(self, content: Content, name: str) -> None:
        super().__init__(None, name=name)
        self._content = content

    @property
    def size(self) -> int:
        return self._content.size

    @property
    def closed(self) -> bool:
        return False

    def read(self, size: int | None = -1) -> bytes:
        return self._content.read(-1 if size is None else size)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        raise OSError("the position in a file that is being sent is not known")

    def seek(self, offset: int, whence: int = 0) -> int:
        if (offset, whence) != (0, 0):
            raise OSError("a file that is being sent can only be read from its start")
        self._content.rewind()
        return 0

    def chunks(self, chunk_size: int | None = None) -> Iterator[bytes]:
        self._content.rewind()
        while block := self._content.read(chunk_size or BLOCK):
            yield block

    def open(self, *_args: Any, **_kwargs: Any) -> _ContentFile:
        self._content.rewind()
        return self

    def close(self) -> None:
        """The caller closes the local file."""
