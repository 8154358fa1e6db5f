"""A dataset's file as an answer: streamed from the storage, whole or a range of it, always as an attachment."""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import AsyncIterator, Callable, Generator, Iterator, Mapping
from itertools import chain

from django.core.handlers.asgi import ASGIRequest
from django.http import HttpRequest, HttpResponse, HttpResponseNotModified, JsonResponse, StreamingHttpResponse
from django.http.response import HttpResponseBase
from django.utils.http import content_disposition_header, parse_etags

from crunch_tasks.errors import CrunchError
from crunch_tasks.files.plan import Source
from crunch_tasks.files.storage import Block, Storage
from server import ranges
from server.proof import prove, proven

_log = logging.getLogger(__name__)

OCTETS = "application/octet-stream"

MOST_BEFORE = 64 * 1024 * 1024
"""So many bytes before a part, at most, are read while the request holds a turn of `AtOnce`; more while it is sent."""

SAFE = {
    "Content-Type": OCTETS,
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "sandbox; default-src 'none'",
    "Cache-Control": "private, no-cache",
}
"""Whatever the file holds, no browser takes it for a page of this site."""


def download(request: HttpRequest, path: str, storage: Storage, source: Source) -> HttpResponseBase:
    """The file, or the one range of it that is asked for. Raises CrunchError when it cannot be read.

    Its ETag tells this version of it, where its MD5 is known: without one nobody can tell that it still is the file of
    which they have a part. Who has all of it (If-None-Match) is told just that.

    | asked for                                    | is                                                           |
    |----------------------------------------------|--------------------------------------------------------------|
    | all of it, or from somewhere to its end      | compared with the MD5, with all that comes before, see proof |
    | `bytes=2-5`, `bytes=-3`                      | as it is: to compare it would be to read the whole file      |
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
    goes_on = ranges.goes_on(told) or len(part) == source.size
    body = _to_its_end(request, storage, source, part.start) if goes_on else _cut(storage, source, part)
    if not goes_on or part.start <= MOST_BEFORE:
        _, body = _begun(body)
    return _streamed(request, body, 206, {**headers, **_told(path, len(part))})


def etag_of(source: Source) -> str:
    """Its MD5, or "" where that is not known; with more where the manifest alone says that the object there has it."""
    if not source.md5:
        return ""
    version = hashlib.md5((source.tag or "").encode(), usedforsecurity=False).hexdigest()[:8]
    return f'"{source.md5}-{version}"' if source.is_md5_published else f'"{source.md5}"'


def whole(
    request: HttpRequest,
    path: str,
    storage: Storage,
    source: Source,
    kind: Callable[[bytes], str] = lambda _: OCTETS,
    headers: Mapping[str, str] | None = None,
) -> HttpResponseBase:
    """The whole file; `kind` tells its media type by its first 12 bytes. Raises CrunchError when it cannot be read."""
    first, body = _begun(_to_its_end(request, storage, source))
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
    """These bytes of the file, whatever it is."""
    left = len(part)
    for block in storage.iter_bytes(source, part.start):
        yield block[:left]
        left -= len(block)
        if left <= 0:
            return


def _to_its_end(request: HttpRequest, storage: Storage, source: Source, start: int = 0) -> Iterator[Block]:
    if source.md5 and not isinstance(request, ASGIRequest):
        # Django's own server, of WSGI, hangs on to the connection after an error in the middle, and so does its client.
        prove(storage, source)
    return blocks(storage, source, start)


def blocks(storage: Storage, source: Source, start: int = 0) -> Generator[Block]:
    """The file's bytes from the one at `start`, proven where their MD5 is known, as a generator, so that it can be
    closed before its end.
    """
    yield from proven(storage, source, start) if source.md5 else storage.iter_bytes(source, start)


def _streamed(
    request: HttpRequest, body: Iterator[Block], status: int, headers: Mapping[str, str]
) -> StreamingHttpResponse:
    body = _noted(body)
    # Under ASGI, Django would gather a plain iterator's blocks in memory before it sends the first.
    sent = _from_thread(body) if isinstance(request, ASGIRequest) else body
    return StreamingHttpResponse(sent, status=status, headers={**SAFE, **headers})


def _noted(body: Iterator[Block]) -> Iterator[Block]:
    """The blocks; what breaks in the middle is too late for another answer."""
    try:
        yield from body
    except CrunchError as error:
        _log.warning("a file that was being sent was cut off: %s", error)
        raise


async def _from_thread(body: Iterator[Block]) -> AsyncIterator[Block]:
    """The blocks, each read in a thread, so that a slow storage does not stop the server's other answers."""
    while block := await asyncio.to_thread(next, body, b""):
        yield block
