"""Handing out a dataset's files: streamed from the storage, always as an attachment, never as a page of this site."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Iterator
from itertools import chain
from typing import ClassVar

from django.core.handlers.asgi import ASGIRequest
from django.http import Http404, HttpRequest, HttpResponse, StreamingHttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import render
from django.utils.http import content_disposition_header
from django.views.generic import View

from crunch_tasks.errors import CrunchError, ObjectMissing
from crunch_tasks.files.storage import Block
from server.models import Dataset
from server.pages import files, find
from server.permissions import Act

_log = logging.getLogger(__name__)

HEADERS = {
    "Content-Type": "application/octet-stream",
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "sandbox; default-src 'none'",
    "Cache-Control": "private, no-cache",
}


class Download(View):
    """One file of a dataset, whole."""

    http_method_names = ["get", "head"]
    acts: ClassVar = {"get": Act.SEE}

    def get(self, request: HttpRequest, project: str, dataset: str, path: str) -> HttpResponseBase:
        owner = find.dataset(request, project, dataset)
        try:
            found = files.find(owner, path)
            if found is None:
                raise Http404("There is no such file (any more).")
            storage, info = found
            blocks = iter(storage.iter_bytes(info))
            # Read before anything is sent, so that a file that cannot be read is an error page, not half a file.
            first = next(blocks, b"")
        except ObjectMissing:
            raise Http404("There is no such file (any more).") from None
        except CrunchError as error:
            return away(request, owner, path, error)
        blocks = chain([first], blocks)
        # Under ASGI, Django would gather a plain iterator's blocks in memory before it sends the first.
        body = _from_thread(blocks) if isinstance(request, ASGIRequest) else blocks
        headers = {**HEADERS, "Content-Type": self.content_type(bytes(first[:12]))}
        response = StreamingHttpResponse(body, headers=headers)
        response.headers["Content-Length"] = str(info.size)
        name = path.rsplit("/", 1)[-1]
        response.headers["Content-Disposition"] = content_disposition_header(True, name) or "attachment"
        return response

    def content_type(self, _head: bytes) -> str:
        """What to call the file, by its first bytes."""
        return HEADERS["Content-Type"]


def away(request: HttpRequest, dataset: Dataset, path: str, error: CrunchError) -> HttpResponse:
    """The page that says that the file cannot be read now."""
    _log.warning("reading %r of %s: %s", path, dataset.slug, error)
    return render(request, "server/storage_away.html", {"dataset": dataset, "problem": str(error)}, status=503)


async def _from_thread(blocks: Iterator[Block]) -> AsyncIterator[Block]:
    """The blocks, each read in a thread, so that a slow storage does not stop the server's other answers."""
    while block := await asyncio.to_thread(next, blocks, b""):
        yield block
