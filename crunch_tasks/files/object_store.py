"""S3, Google Cloud Storage and Azure through obstore: streamed, verified from the answer, many at once."""

from __future__ import annotations

import contextlib
import hashlib
import mimetypes
import re
import threading
from collections.abc import Callable, Iterator
from typing import Any

import obstore
from obstore.exceptions import (
    BaseError,
    InvalidPathError,
    NotSupportedError,
    PermissionDeniedError,
    UnauthenticatedError,
    UnknownConfigurationKeyError,
)

from crunch_tasks.errors import CrunchError, NamesRefused, ObjectMissing, StorageError, TransferError
from crunch_tasks.files.object_store_settings import Opened, open_from_django
from crunch_tasks.files.parallel import in_parallel
from crunch_tasks.files.storage import BLOCK, Content, ObjectInfo

PART = 8 * BLOCK
"""Larger files go up in parts of at least this many bytes."""

MAX_PARTS = 9_000
PARTS_AT_ONCE = 4
LARGE_AT_ONCE = 2
"""Large files at once; with PARTS_AT_ONCE and PART this bounds memory."""

LARGEST_COPY = 4 * 1024 * 1024 * 1024
"""S3 copies objects of up to 5 GB with one request; larger ones go through this machine."""

_MD5_ETAG = re.compile(r'"?([0-9a-f]{32})"?')
_LASTING = (
    PermissionDeniedError, UnauthenticatedError, NotSupportedError, UnknownConfigurationKeyError, InvalidPathError
)  # fmt: skip


def open_object_store(django_storage: Any, timeout_s: float) -> ObjectStorage:
    return ObjectStorage(open_from_django(django_storage, timeout_s), timeout_s)


class ObjectStorage:
    """The Storage interface over an object store's bucket."""

    parallel = 16

    def __init__(self, opened: Opened, timeout_s: float) -> None:
        self.description = opened.description
        self.timeout_s = timeout_s
        self._reader = opened.reader
        self._writer = opened.writer
        self._attributes = opened.attributes
        self._is_encrypted = opened.is_encrypted
        self._etag_is_md5 = opened.etag_is_md5
        self._large = threading.BoundedSemaphore(LARGE_AT_ONCE)

    def list_objects(self, prefix: str) -> Iterator[ObjectInfo]:
        empty = []
        with _translated(prefix):
            for page in obstore.list(self._reader, prefix or None, chunk_size=1000):
                for meta in page:
                    if not meta["path"].startswith(prefix):
                        continue
                    if meta["size"] == 0:
                        empty.append(self._info(meta))
                    else:
                        yield self._info(meta)
        yield from self._without_markers(empty)

    def _without_markers(self, empty: list[ObjectInfo]) -> list[ObjectInfo]:
        """Without the objects `folder/` that consoles make to show an empty folder: obstore lists them as `folder`."""
        there = in_parallel(lambda info, _: self.stat(info.key), empty, self.parallel, lambda: None)
        return [info for info, found in zip(empty, there, strict=True) if found is not None]

    def stat(self, key: str) -> ObjectInfo | None:
        try:
            with _translated(key):
                return self._info(obstore.head(self._reader, key))
        except ObjectMissing:
            return None

    def tells_md5(self, key: str) -> bool:
        return self._etag_is_md5 and not self._is_encrypted(key)

    def _info(self, meta: Any) -> ObjectInfo:
        etag = meta["e_tag"]
        found = _MD5_ETAG.fullmatch(etag or "")
        md5 = found[1] if found and self._etag_is_md5 else None
        mtime_ns = int(meta["last_modified"].timestamp() * 1_000_000) * 1000
        return ObjectInfo(meta["path"], meta["size"], mtime_ns, md5, etag)

    def iter_bytes(self, key: str) -> Iterator[bytes]:
        with _translated(key):
            for block in obstore.get(self._reader, key).stream(min_chunk_size=BLOCK):
                yield bytes(block)

    def send(self, content: Content, key: str, before_commit: Callable[[], None]) -> ObjectInfo:
        with _translated(key):
            if content.size <= PART:
                etag = self._send_small(content, key, before_commit)
                expected = content.md5
            else:
                with self._large:
                    etag, expected = self._send_large(content, key, before_commit)
        if (etag or "").strip('"') != expected:
            self._read_back(key, content.md5)
        return ObjectInfo(key, content.size, None, content.md5, etag)

    def _send_small(self, content: Content, key: str, before_commit: Callable[[], None]) -> str | None:
        content.rewind()
        data = content.read()
        before_commit()
        answer = obstore.put(self._writer, key, data, attributes=self._attributes_of(key), use_multipart=False)
        return answer["e_tag"]

    def _send_large(self, content: Content, key: str, before_commit: Callable[[], None]) -> tuple[str | None, str]:
        """Send in parts; returns the answer's ETag and what S3 makes of these parts."""
        content.rewind()
        part = _part_size(content.size)
        sums = hashlib.md5(usedforsecurity=False)
        count = 0

        def blocks() -> Iterator[bytes]:
            nonlocal count
            current, left = hashlib.md5(usedforsecurity=False), part
            # Reading to the end verifies the whole; an error here aborts the upload before it is completed.
            while block := content.read(min(BLOCK, left)):
                current.update(block)
                left -= len(block)
                if left == 0:
                    sums.update(current.digest())
                    count += 1
                    current, left = hashlib.md5(usedforsecurity=False), part
                yield block
            if left < part:
                sums.update(current.digest())
                count += 1
            # From here two requests one after the other: the last parts, all at once, and the completion. A writer's
            # request takes half of `timeout_s` at most.
            before_commit()

        answer = obstore.put(
            self._writer,
            key,
            blocks(),
            attributes=self._attributes_of(key),
            use_multipart=True,
            chunk_size=part,
            max_concurrency=PARTS_AT_ONCE,
        )
        return answer["e_tag"], f"{sums.hexdigest()}-{count}"

    def _read_back(self, key: str, md5: str) -> None:
        """Verify by reading, where the answer to a PUT does not tell: Azure, and S3 with some encryptions."""
        digest = hashlib.md5(usedforsecurity=False)
        for block in self.iter_bytes(key):
            digest.update(block)
        if digest.hexdigest() != md5:
            raise TransferError(f"{key!r} did not arrive as it was sent: MD5 {md5} sent, {digest.hexdigest()} stored")

    def write(self, key: str, data: bytes) -> ObjectInfo:
        md5 = hashlib.md5(data, usedforsecurity=False).hexdigest()
        with _translated(key):
            answer = obstore.put(self._writer, key, data, attributes=self._attributes_of(key), use_multipart=False)
        if (answer["e_tag"] or "").strip('"') != md5:
            self._read_back(key, md5)
        return ObjectInfo(key, len(data), None, md5, answer["e_tag"])

    def copy(self, source: str, target: str) -> None:
        with _translated(source):
            size = obstore.head(self._reader, source)["size"]
            if size <= LARGEST_COPY:
                obstore.copy(self._writer, source, target)
                return
            attributes = self._attributes_of(target)
            blocks = self.iter_bytes(source)
            obstore.put(self._writer, target, blocks, attributes=attributes, chunk_size=_part_size(size))

    def delete(self, key: str) -> None:
        with contextlib.suppress(ObjectMissing), _translated(key):
            obstore.delete(self._writer, [key])

    def flush(self) -> None:
        """An object store answers when the object is safe."""

    def check_overwrites(self, prefix: str) -> None:
        """Object stores overwrite, whatever the Django storage's own `file_overwrite` says."""

    def _attributes_of(self, key: str) -> dict[str, str]:
        # No Content-Encoding, ever: readers would unpack what the dataset holds packed.
        kind, encoding = mimetypes.guess_type(key)
        if encoding == "gzip":
            kind = "application/gzip"
        elif encoding:
            kind = None
        return {"Content-Type": kind or "application/octet-stream", **self._attributes}


def _part_size(size: int) -> int:
    """How many bytes to send at a time, a multiple of BLOCK, so that S3's limit of 10,000 parts is kept."""
    return max(PART, (size // MAX_PARTS // BLOCK + 1) * BLOCK)


# A listing that is refused (wrong key, no such bucket) has no class of its own in obstore, only its words.
_REFUSED = re.compile(r"status code: 4(?!08|29)\d\d")


@contextlib.contextmanager
def _translated(key: str) -> Iterator[None]:
    """Turn obstore's errors into ours, naming the key."""
    try:
        yield
    except CrunchError:
        raise
    except FileNotFoundError as error:
        raise ObjectMissing(f"{key!r} is not in the storage: {_short(error)}") from error
    except InvalidPathError as error:
        raise NamesRefused([f"below {key!r}: {_short(error)}"]) from error
    except _LASTING as error:
        raise StorageError(f"The storage refused {key!r}: {_short(error)}") from error
    except ValueError as error:
        raise NamesRefused([f"{key!r}: {_short(error)}"]) from error
    except (BaseError, OSError) as error:
        if _REFUSED.search(str(error)):
            raise StorageError(f"The storage refused {key!r}: {_short(error)}") from error
        raise TransferError(f"{key!r} could not be transferred: {_short(error)}") from error


def _short(error: Exception) -> str:
    """The first paragraph of obstore's message, without query strings, which can carry a signature."""
    text = " ".join(str(error).split("\n\nDebug source")[0].split())
    return re.sub(r"\?\S+", "?...", text)[:400]
