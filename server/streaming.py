"""A dataset's file as an answer: streamed from the storage, whole or a range of it, always as an attachment."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable, Generator, Iterator, Mapping
from contextlib import closing
from itertools import chain

from django.core.handlers.asgi import ASGIRequest
from django.http import HttpRequest, HttpResponse, HttpResponseNotModified, JsonResponse, StreamingHttpResponse
from django.http.response import HttpResponseBase
from django.utils.http import content_disposition_header, parse_etags

from crunch_tasks.errors import Altered, TransferError
from crunch_tasks.files.plan import Source
from crunch_tasks.files.reading import MEND
from crunch_tasks.files.storage import Block, Storage
from crunch_tasks.files.verify import Arrived, verify
from server import ranges

OCTETS = "application/octet-stream"

SAFE = {
    "Content-Type": OCTETS,
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "sandbox; default-src 'none'",
    "Cache-Control": "private, no-cache",
}
"""Whatever the file holds, no browser takes it for a page of this site."""


def download(request: HttpRequest, path: str, storage: Storage, source: Source) -> HttpResponseBase:
    """The file, or the one range of it that is asked for. Raises CrunchError when it cannot be read.

    Its ETag is its MD5, where that is known: without it nobody can tell that it still is the file of which they have
    a part. Who has all of it (If-None-Match) is told just that.
    """
    etag = etag_of(source)
    headers = {"Accept-Ranges": "bytes", **({"ETag": etag} if etag else {})}
    known = parse_etags(request.headers.get("If-None-Match", ""))
    if etag and not {"*", etag, f"W/{etag}"}.isdisjoint(known):
        return HttpResponseNotModified(headers={"Cache-Control": SAFE["Cache-Control"], "ETag": etag})
    if request.method == "HEAD":
        return HttpResponse(headers={**SAFE, **headers, **_told(path, source.size)})
    try:
        told, if_range = (request.headers.get(name, "") for name in ("Range", "If-Range"))
        part = ranges.asked(told, if_range, etag, source.size)
    except ranges.Unsatisfiable:
        detail = f"The file has {source.size} bytes: there are none from where the range begins."
        return JsonResponse({"detail": detail}, status=416, headers={"Content-Range": f"bytes */{source.size}"})
    if part is None:
        return whole(request, path, storage, source, headers=headers)
    headers["Content-Range"] = f"bytes {part.start}-{part.stop - 1}/{source.size}"
    _, body = _begun(_cut(storage, source, part))
    return _streamed(request, body, 206, {**headers, **_told(path, len(part))})


def etag_of(source: Source) -> str:
    """Its MD5, or "" where that is not known."""
    return f'"{source.md5}"' if source.md5 else ""


def whole(
    request: HttpRequest,
    path: str,
    storage: Storage,
    source: Source,
    kind: Callable[[bytes], str] = lambda _: OCTETS,
    headers: Mapping[str, str] | None = None,
) -> HttpResponseBase:
    """The whole file; `kind` tells its media type by its first 12 bytes. Raises CrunchError when it cannot be read."""
    first, body = _begun(blocks(storage, source))
    told = {**_told(path, source.size), "Content-Type": kind(bytes(first[:12]))}
    return _streamed(request, body, 200, {**(headers or {}), **told})


def _told(path: str, length: int) -> dict[str, str]:
    name = path.rsplit("/", 1)[-1]
    disposition = content_disposition_header(True, name) or "attachment"
    return {"Content-Length": str(length), "Content-Disposition": disposition}


def _begun(body: Iterator[Block]) -> tuple[Block, Iterator[Block]]:
    """The first block, and all of them: read before anything is sent, so that a file that cannot be read is an error
    and not half a file.
    """
    first = next(body, b"")
    return first, chain([first], body)


def _cut(storage: Storage, source: Source, part: range) -> Iterator[Block]:
    """These bytes of the file."""
    left = len(part)
    with closing(blocks(storage, source, part.start)) as found:
        for block in found:
            yield block[:left]
            left -= len(block)
            if left <= 0:
                return


def blocks(storage: Storage, source: Source, start: int = 0) -> Generator[Block]:
    """The file's bytes from the one at `start`, as a generator, so that it can be closed before its end.

    Of a whole file whose MD5 is known, the last block comes only when all have that MD5: who is sent another file never
    gets as many bytes as were announced, and takes it for a failure. Raises Altered, or TransferError.
    """
    found = storage.iter_bytes(source, start)
    if start or source.md5 is None:
        yield from found
        return
    digest, size, held = hashlib.md5(usedforsecurity=False), 0, None
    for block in found:
        digest.update(block)
        size += len(block)
        if held is not None:
            yield held
        held = block
    try:
        verify(storage, source, Arrived(size, digest.hexdigest()))
    except TransferError as error:
        if source.is_md5_published:
            raise Altered(f"{error}. {MEND}") from None
        raise
    if held is not None:
        yield held


def _streamed(
    request: HttpRequest, body: Iterator[Block], status: int, headers: Mapping[str, str]
) -> StreamingHttpResponse:
    # Under ASGI, Django would gather a plain iterator's blocks in memory before it sends the first.
    sent = _from_thread(body) if isinstance(request, ASGIRequest) else body
    return StreamingHttpResponse(sent, status=status, headers={**SAFE, **headers})


async def _from_thread(body: Iterator[Block]) -> AsyncIterator[Block]:
    """The blocks, each read in a thread, so that a slow storage does not stop the server's other answers."""
    while block := await asyncio.to_thread(next, body, b""):
        yield block
