"""A folder as storage, by plain file calls: whole files appear by rename, and no link leads out of it."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import shutil
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from crunch_tasks.errors import ObjectMissing, SettingsError, StorageError, TransferError
from crunch_tasks.files import tree
from crunch_tasks.files.paths import name_problem
from crunch_tasks.files.storage import BLOCK, Content, ObjectInfo, Source

PARTIAL = ".crunch-part-"
"""How a file is called while it is being written, beside its final name; such names are never listed."""


class FolderStorage:
    """The Storage interface over a local folder; keys are paths below `root`.

    A link counts as the file that it leads to while that is in the folder; one that leads out is an error.
    """

    parallel = 8
    parallel_large = 8
    timeout_s = 1.0
    """A rename is over at once, or the file system hangs."""

    def __init__(self, root: Path, *, file_mode: int | None = None, folder_mode: int | None = None) -> None:
        self.root = Path(os.path.realpath(root))
        self.description = f"folder {self.root}"
        self._file_mode = file_mode
        self._folder_mode = folder_mode

    @classmethod
    def from_django(cls, storage: Any) -> FolderStorage:
        """Raises SettingsError when the Django storage names no folder, which Django takes for the current one."""
        if not storage.base_location:
            raise SettingsError("The folder storage has no location: give it in OPTIONS, or as MEDIA_ROOT")
        return cls(
            Path(storage.location),
            file_mode=storage.file_permissions_mode,
            folder_mode=storage.directory_permissions_mode,
        )

    def list_objects(self, prefix: str) -> Iterator[ObjectInfo]:
        for key, entry in self._entries(prefix):
            if not entry.name.startswith(PARTIAL):
                info = self._listed(key, entry)
                if info is not None:
                    yield info

    def _entries(self, prefix: str) -> Iterator[tuple[str, os.DirEntry[str]]]:
        """All that is below `prefix` and no folder."""
        if prefix:
            self._check(prefix.removesuffix("/"))
        folders = [prefix]
        while folders:
            folder = folders.pop()
            for entry in self._scan(folder):
                key = folder + entry.name
                if entry.is_dir(follow_symlinks=False):
                    folders.append(key + "/")
                else:
                    yield key, entry

    def remove_unfinished(self, prefix: str, is_ours: Callable[[str], bool]) -> None:  # noqa: ARG002
        """Their names tell that they are ours."""
        for _, entry in self._entries(prefix):
            if entry.name.startswith(PARTIAL):
                Path(entry.path).unlink(missing_ok=True)

    def _listed(self, key: str, entry: os.DirEntry[str]) -> ObjectInfo | None:
        """What a listing says of an entry, whatever its name: all bad ones are reported at once. None when it is gone.

        Raises ObjectMissing for a link to nothing, StorageError for one that leads out and for what is no file.
        """
        try:
            return self._info(key, self._resolve(key).lstat() if entry.is_symlink() else entry.stat())
        except (FileNotFoundError, ObjectMissing):
            # Others may remove files, and promotions do, since the folder was read.
            if os.path.lexists(entry.path):
                raise
            return None

    def _scan(self, folder: str) -> list[os.DirEntry[str]]:
        try:
            with os.scandir(self.root / folder) as entries:
                return list(entries)
        except FileNotFoundError:
            if not self.root.is_dir():
                # Of a share that is not mounted, it would be wrong to say that datasets have no files.
                raise StorageError(f"The storage folder {self.root} is not there. Mount it, or make it.") from None
            return []
        except OSError as error:
            raise StorageError(f"The storage folder {folder!r} cannot be read: {error.strerror}") from error

    def stat(self, key: str) -> ObjectInfo | None:
        if key.rsplit("/", 1)[-1].startswith(PARTIAL):
            return None
        try:
            return self._info(key, self._resolve(key).lstat())
        except (ObjectMissing, FileNotFoundError):
            return None

    def tells_md5(self, key: str) -> bool:  # noqa: ARG002
        """A folder tells no MD5 that could be in doubt."""
        return True

    def _info(self, key: str, status: os.stat_result) -> ObjectInfo:
        if not stat.S_ISREG(status.st_mode):
            raise StorageError(f"{key!r} in the storage is no regular file; move it away")
        # The inode tells a replaced file from the old one where the clock of the file system is coarse.
        etag = f"{status.st_ino}-{status.st_mtime_ns}-{status.st_ctime_ns}"
        return ObjectInfo(key, status.st_size, status.st_mtime_ns, None, etag)

    def content_md5(self, key: str) -> None:
        """It keeps none."""

    def part_size(self, size: int) -> None:
        """It sends files as a whole."""

    def part_of(self, source: Source) -> None:
        """A folder has no parts."""

    def read(self, key: str) -> bytes:
        with self._translated(key), self._open(key) as file:
            return bytes(file.read())

    def iter_bytes(self, source: Source, start: int = 0) -> Iterator[bytes]:
        return self._blocks(source.key, start)

    def _blocks(self, key: str, start: int = 0) -> Iterator[bytes]:
        with self._translated(key), self._open(key) as file:
            file.seek(start)
            while block := file.read(BLOCK):
                yield block

    def _open(self, key: str) -> Any:
        # O_NONBLOCK: opening a FIFO must not hang.
        descriptor = os.open(self._resolve(key), os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise StorageError(f"{key!r} in the storage is no regular file")
        return os.fdopen(descriptor, "rb", buffering=0)

    def send(self, content: Content, key: str, before_commit: Callable[[], None]) -> ObjectInfo:
        def blocks() -> Iterator[bytes]:
            content.rewind()
            while block := content.read(BLOCK):
                yield block

        info = self._put(key, blocks(), before_commit, content.size)
        return ObjectInfo(key, info.size, info.mtime_ns, content.md5, info.etag)

    def write(self, key: str, data: bytes, md5: str | None = None) -> ObjectInfo:  # noqa: ARG002
        return self._put(key, iter([data]), lambda: None, len(data))

    def _put(self, key: str, blocks: Iterator[bytes], before_commit: Callable[[], None], size: int) -> ObjectInfo:
        with self._translated(key, size):
            folder = self._make_folder(key)
            partial = folder / f"{PARTIAL}{secrets.token_hex(8)}"
            try:
                with partial.open("xb") as file:
                    for block in blocks:
                        file.write(block)
                    if self._file_mode is not None:
                        os.fchmod(file.fileno(), self._file_mode)
                    file.flush()
                    os.fsync(file.fileno())
                before_commit()
                target = folder / key.rsplit("/", 1)[-1]
                partial.rename(target)
            except BaseException:
                partial.unlink(missing_ok=True)
                raise
            return self._info(key, target.lstat())

    def _make_folder(self, key: str) -> Path:
        """The real folder for `key`, made when it is not there."""
        self._check(key)
        folder = self.root
        for name in ["", *key.split("/")[:-1]]:
            folder = folder / name
            if not folder.is_dir():
                folder.mkdir(exist_ok=True, parents=folder == self.root)
                if self._folder_mode is not None:
                    folder.chmod(self._folder_mode)
        real = Path(os.path.realpath(folder))
        if not real.is_relative_to(self.root):
            raise StorageError(f"{key!r} would be written outside of {self.description}: a link leads there")
        return real

    def signed_put(self, key: str, name: str, size: int, md5: str) -> None:
        """A folder has no addresses."""

    def copy(self, source: str, target: str) -> None:
        self._put(target, self._blocks(source), lambda: None, self._resolve(source).stat().st_size)

    def delete(self, key: str) -> None:
        self._check(key)
        path = self.root / key
        if not Path(os.path.realpath(path.parent)).is_relative_to(self.root):
            raise StorageError(f"{key!r} leads out of {self.description}")
        with self._translated(key), contextlib.suppress(FileNotFoundError, NotADirectoryError):
            path.unlink()
            # An object store has no empty folders, so a folder that becomes empty goes.
            for folder in path.parents:
                if folder == self.root:
                    break
                with contextlib.suppress(OSError):
                    folder.rmdir()

    def flush(self) -> None:
        # Each file's bytes were synced before it got its name; this makes the names survive too.
        tree.sync(self.root)

    def check_overwrites(self, prefix: str) -> None:
        """A rename overwrites, whatever the Django storage's own `allow_overwrite` says."""

    def _check(self, key: str) -> None:
        problem = name_problem(key)
        if problem:
            raise StorageError(f"{key!r} is no key: {problem}")

    def _resolve(self, key: str) -> Path:
        """The real path of an existing key. Raises StorageError when it is outside the folder."""
        self._check(key)
        try:
            real = Path(os.path.realpath(self.root / key, strict=True))
        except (FileNotFoundError, NotADirectoryError) as error:
            raise ObjectMissing(f"{key!r} is not in {self.description}") from error
        except OSError as error:
            raise StorageError(f"{key!r} in {self.description} cannot be reached: {error.strerror}") from error
        if not real.is_relative_to(self.root):
            raise StorageError(f"{key!r} is a link that leads out of {self.description}; put the file itself there")
        return real

    @contextlib.contextmanager
    def _translated(self, key: str, size: int = 0) -> Iterator[None]:
        """Turn the system's errors into ours, naming the key; `size` is how many bytes it needs."""
        try:
            yield
        except FileNotFoundError as error:
            raise ObjectMissing(f"{key!r} is not in the storage") from error
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                free = shutil.disk_usage(self.root).free
                raise StorageError(f"The storage is full: {key!r} needs {size} bytes, {free} are free") from error
            raise TransferError(f"{key!r} in the storage: {error.strerror or error}") from error
