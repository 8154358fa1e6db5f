"""S3, Google Cloud Storage and Azure through obstore: streamed, verified from the answer, many at once."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import mimetypes
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

import obstore

from crunch_tasks.errors import ObjectMissing, TimedOut, TransferError
from crunch_tasks.files.object_store_errors import changed, has_timed_out, translated
from crunch_tasks.files.object_store_settings import Opened, open_from_django
from crunch_tasks.files.pace import CHUNK, STEP, patience_for, too_slow
from crunch_tasks.files.parallel import Moved, Width, ahead, in_parallel, in_time
from crunch_tasks.files.signing import Announced
from crunch_tasks.files.storage import BLOCK, LARGE, Content, ObjectInfo, SignedPut, Source
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
"""Large objects are read in ranges of RANGE bytes, so many at once, in chunks, as one piece takes twice its size."""

LARGEST_COPY = 4 * 1024 * 1024 * 1024
"""S3 copies and takes objects of up to 5 GB with one request; larger ones are copied through this machine."""


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
        self._patience_s = patience_for(timeout_s)
        self._is_slow = False
        self._parts_at_once = Width(PARTS_AT_ONCE)
        self._asker = opened.asker
        self._quick = opened.quick
        self._reader = opened.reader
        self._writer = opened.writer
        self._attributes = opened.attributes
        self._is_encrypted = opened.is_encrypted
        self._content_md5 = opened.content_md5
        self._first_part = opened.first_part
        self._abort_unfinished = opened.abort_unfinished
        self._etag_is_md5 = opened.etag_is_md5
        self._sign = opened.sign
        self._large = threading.BoundedSemaphore(self.parallel_large)

    def list_objects(self, prefix: str) -> Iterator[ObjectInfo]:
        empty = []
        with translated(prefix):
            for page in obstore.list(self._asker, prefix or None, chunk_size=1000):
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
            with translated(key):
                return self._info(obstore.head(self._asker, key))
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
        if not self._is_slow:
            try:
                with translated(key):
                    return obstore.get(self._quick, key).bytes().to_bytes()
            except TimedOut:
                # Whoever has more to fetch than comes in that time goes on with a thread that counts what comes.
                self._is_slow = True

        def fetch(moved: Moved) -> bytes:
            with translated(key):
                return b"".join(_counted(obstore.get(self._reader, key).stream(min_chunk_size=STEP), moved))

        try:
            return in_time(fetch, self._patience_s)
        except TimeoutError as error:
            raise too_slow(key, self.description, STEP, self._patience_s) from error

    def iter_bytes(self, source: Source, start: int = 0) -> Iterator[memoryview]:
        """In ranges, several at once, all of one version of the object; empty ones are not asked for."""

        def fetch(at: int, moved: Moved) -> list[memoryview]:
            end = min(at + RANGE, source.size)
            options: GetOptions = {"range": (at, end)}
            if source.tag and not source.tag.startswith("mtime-"):
                options["if_match"] = source.tag
            with translated(source.key):
                answer = obstore.get(self._reader, source.key, options=options)
                if answer.meta["size"] != source.size:
                    raise changed(source.key)
                chunks = list(_counted(answer.stream(min_chunk_size=CHUNK), moved))
            arrived = at + sum(map(len, chunks))
            if arrived != end:
                raise TransferError(f"{source.key!r} was cut short on its way, after {arrived} of {source.size} bytes")
            return chunks

        try:
            for chunks in ahead(fetch, range(start, source.size, RANGE), RANGES_AT_ONCE, self._patience_s):
                yield from chunks
        except TimeoutError as error:
            raise too_slow(source.key, self.description, CHUNK, self._patience_s) from error

    def send(self, content: Content, key: str, before_commit: Callable[[], None]) -> ObjectInfo:
        part = self.part_size(content.size)
        if part is None:
            content.rewind()
            data = content.read()
            before_commit()
            return self.write(key, data, content.md5)
        with translated(key), self._large:
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

        at_once = self._parts_at_once.width
        try:
            answer = obstore.put(
                self._writer,
                key,
                blocks(),
                attributes=self._attributes_of(key),
                use_multipart=True,
                chunk_size=part,
                max_concurrency=at_once,
            )
        except BaseException as error:
            if has_timed_out(error):
                self._parts_at_once.narrow(at_once)
            raise
        self._parts_at_once.widen()
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
        with translated(key):
            answer = obstore.put(self._writer, key, data, attributes=self._attributes_of(key), use_multipart=False)
        if md5_of(answer["e_tag"]) != md5:
            self._read_back(key, len(data), md5)
        return ObjectInfo(key, len(data), None, md5, answer["e_tag"])

    def signed_put(self, key: str, name: str, size: int, md5: str) -> SignedPut | None:
        """None also for what `copy` could not move, and where a site gives objects headers that no browser knows of."""
        if self._attributes or size > LARGEST_COPY:
            return None
        told = base64.b64encode(bytes.fromhex(md5)).decode()
        return self._sign(Announced(key, size, told, self._attributes_of(name)["Content-Type"]))

    def copy(self, source: str, target: str) -> None:
        with translated(source):
            info = self._info(obstore.head(self._asker, source))
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
                    max_concurrency=self._parts_at_once.width,
                )

    def delete(self, key: str) -> None:
        with contextlib.suppress(ObjectMissing), translated(key):
            obstore.delete(self._writer, [key])

    def remove_unfinished(self, prefix: str, is_ours: Callable[[str], bool]) -> None:
        """On S3; Azure forgets such parts after a week, Google when the bucket's lifecycle rules say so."""
        self._abort_unfinished(prefix, is_ours)

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


def _counted(chunks: Iterable[Any], moved: Moved) -> Iterator[memoryview]:
    for chunk in chunks:
        moved()
        yield memoryview(chunk)
