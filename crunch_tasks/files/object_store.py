"""S3, Google Cloud Storage and Azure through obstore: streamed, verified from the answer, many at once."""

from __future__ import annotations

import contextlib
import hashlib
import mimetypes
import re
import threading
from collections.abc import Callable, Iterator
from itertools import chain
from typing import TYPE_CHECKING, Any

import obstore
from obstore.exceptions import (
    BaseError,
    InvalidPathError,
    NotSupportedError,
    PermissionDeniedError,
    PreconditionError,
    UnauthenticatedError,
    UnknownConfigurationKeyError,
)

from crunch_tasks.errors import CrunchError, NamesRefused, ObjectMissing, StorageError, TransferError
from crunch_tasks.files.object_store_settings import Opened, open_from_django
from crunch_tasks.files.parallel import ahead, in_parallel
from crunch_tasks.files.storage import BLOCK, LARGE, Content, ObjectInfo, Source
from crunch_tasks.files.sums import PartSum, md5_of, sum_of_parts
from crunch_tasks.files.verify import md5_by_reading

if TYPE_CHECKING:
    from obstore import GetOptions

PART = LARGE
"""Larger files go up in parts of at least this many bytes."""

MAX_PARTS = 9_000
PARTS_AT_ONCE = 3

RANGE = 3 * BLOCK
RANGES_AT_ONCE = 2
CHUNK = BLOCK // 4
"""Large objects are read in ranges of RANGE bytes, so many at once, in chunks, as one piece takes twice its size."""

LARGEST_COPY = 4 * 1024 * 1024 * 1024
"""S3 copies objects of up to 5 GB with one request; larger ones go through this machine."""

_LASTING = (
    PermissionDeniedError, UnauthenticatedError, NotSupportedError, UnknownConfigurationKeyError, InvalidPathError
)  # fmt: skip


def open_object_store(django_storage: Any, timeout_s: float) -> ObjectStorage:
    return ObjectStorage(open_from_django(django_storage, timeout_s), timeout_s)


class ObjectStorage:
    """The Storage interface over an object store's bucket."""

    parallel = 32
    parallel_large = 2
    """With PARTS_AT_ONCE and PART, RANGES_AT_ONCE and RANGE this bounds memory."""

    def __init__(self, opened: Opened, timeout_s: float) -> None:
        self.description = opened.description
        self.timeout_s = timeout_s
        self._reader = opened.reader
        self._writer = opened.writer
        self._attributes = opened.attributes
        self._is_encrypted = opened.is_encrypted
        self._content_md5 = opened.content_md5
        self._first_part = opened.first_part
        self._etag_is_md5 = opened.etag_is_md5
        self._large = threading.BoundedSemaphore(self.parallel_large)

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
        md5 = md5_of(etag) if self._etag_is_md5 else None
        mtime_ns = int(meta["last_modified"].timestamp() * 1_000_000) * 1000
        return ObjectInfo(meta["path"], meta["size"], mtime_ns, md5, etag)

    def content_md5(self, key: str) -> str | None:
        return self._content_md5(key)

    def part_of(self, source: Source) -> int | None:
        return self._first_part(source.key)

    def read(self, key: str) -> bytes:
        with _translated(key):
            return obstore.get(self._reader, key).bytes().to_bytes()

    def iter_bytes(self, source: Source, start: int = 0) -> Iterator[memoryview]:
        """In ranges, several at once, all of one version of the object; empty ones are not asked for."""

        def fetch(at: int) -> list[memoryview]:
            end = min(at + RANGE, source.size)
            options: GetOptions = {"range": (at, end)}
            if source.tag and not source.tag.startswith("mtime-"):
                options["if_match"] = source.tag
            with _translated(source.key):
                answer = obstore.get(self._reader, source.key, options=options)
                if answer.meta["size"] != source.size:
                    raise _changed(source.key)
                chunks = [memoryview(chunk) for chunk in answer.stream(min_chunk_size=CHUNK)]
            arrived = at + sum(map(len, chunks))
            if arrived != end:
                raise TransferError(f"{source.key!r} was cut short on its way, after {arrived} of {source.size} bytes")
            return chunks

        return chain.from_iterable(ahead(fetch, range(start, source.size, RANGE), RANGES_AT_ONCE))

    def send(self, content: Content, key: str, before_commit: Callable[[], None]) -> ObjectInfo:
        part = self.part_size(content.size)
        if part is None:
            content.rewind()
            data = content.read()
            before_commit()
            return self.write(key, data, content.md5)
        with _translated(key), self._large:
            etag, expected = self._send_parts(content, part, key, before_commit)
        if sum_of_parts(etag) != expected:
            self._read_back(key, content.size, content.md5)
        return ObjectInfo(key, content.size, None, content.md5, etag)

    def _send_parts(
        self, content: Content, part: int, key: str, before_commit: Callable[[], None]
    ) -> tuple[str | None, str]:
        """Returns the answer's ETag and what S3 makes of these parts."""
        content.rewind()
        sums = PartSum(part)

        def blocks() -> Iterator[bytes]:
            # Reading to the end verifies the whole; an error here aborts the upload before it is completed.
            while block := content.read(BLOCK):
                if not content.parts:
                    sums.update(block)
                yield block
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
        return answer["e_tag"], content.parts or sums.result()

    def part_size(self, size: int) -> int | None:
        """A multiple of BLOCK, so that S3's limit of 10,000 parts is kept."""
        return max(PART, (size // MAX_PARTS // BLOCK + 1) * BLOCK) if size > PART else None

    def _read_back(self, key: str, size: int, md5: str) -> None:
        """Verify where the answer to a PUT does not tell, as on Azure and S3 with some encryptions: ask, else read."""
        if self._content_md5(key) == md5:
            return
        stored = md5_by_reading(self, Source(key, size))
        if stored != md5:
            raise TransferError(f"{key!r} did not arrive as it was sent: MD5 {md5} sent, {stored} stored")

    def write(self, key: str, data: bytes, md5: str | None = None) -> ObjectInfo:
        md5 = md5 or hashlib.md5(data, usedforsecurity=False).hexdigest()
        with _translated(key):
            answer = obstore.put(self._writer, key, data, attributes=self._attributes_of(key), use_multipart=False)
        if md5_of(answer["e_tag"]) != md5:
            self._read_back(key, len(data), md5)
        return ObjectInfo(key, len(data), None, md5, answer["e_tag"])

    def copy(self, source: str, target: str) -> None:
        with _translated(source):
            info = self._info(obstore.head(self._reader, source))
            if info.size <= LARGEST_COPY:
                obstore.copy(self._writer, source, target)
                return
            with self._large:
                obstore.put(
                    self._writer,
                    target,
                    self.iter_bytes(info.as_source()),
                    attributes=self._attributes_of(target),
                    chunk_size=self.part_size(info.size) or PART,
                    max_concurrency=PARTS_AT_ONCE,
                )

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
    except PreconditionError as error:
        raise _changed(key) from error
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


def _changed(key: str) -> TransferError:
    return TransferError(f"{key!r} changed while it was being read; run again when nothing writes to it")


def _short(error: Exception) -> str:
    """The first paragraph of obstore's message, without query strings, which can carry a signature."""
    text = " ".join(str(error).split("\n\nDebug source")[0].split())
    return re.sub(r"\?\S+", "?...", text)[:400]
