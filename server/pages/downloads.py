"""Handing out a dataset's files: streamed from the storage, always as an attachment, never as a page of this site."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Iterator
from itertools import chain
from typing import ClassVar

from django.core.handlers.asgi import ASGIRequest
from django.http import Http404, HttpRequest, StreamingHttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import render
from django.utils.http import content_disposition_header
from django.views.generic import View

from crunch_tasks.errors import CrunchError, ObjectMissing
from crunch_tasks.files.plan import Source
from crunch_tasks.files.storage import Block, Storage
from server.models import Dataset
from server.pages import find
from server.permissions import Act
from server.services import files

GONE = "There is no such file (any more)."

_log = logging.getLogger(__name__)

HEADERS = {
    "Content-Type": "application/octet-stream",
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "sandbox; default-src 'none'",
    "Cache-Control": "private, no-cache",
}


class FileView(View):
    """A view of one file of a dataset, which it finds; what cannot be found or read is a page that says so."""

    http_method_names = ["get", "head"]
    acts: ClassVar = {"get": Act.SEE}

    def get(self, request: HttpRequest, project: str, dataset: str, path: str) -> HttpResponseBase:
        owner = find.dataset(request, project, dataset)
        try:
            found = files.find(owner, path)
            if found is None:
                raise Http404(GONE)
            return self.answer(owner, path, *found)
        except ObjectMissing:
            raise Http404(GONE) from None
        except CrunchError as error:
            _log.warning("reading %r of %s: %s", path, owner.slug, error)
            shown = {"dataset": owner, "problem": str(error)}
            return render(request, "server/storage_away.html", shown, status=503)

    def answer(self, dataset: Dataset, path: str, storage: Storage, source: Source) -> HttpResponseBase:
        """What to answer with this file. Raises CrunchError when it cannot be read."""
        raise NotImplementedError


class Download(FileView):
    """One file of a dataset, whole."""

    def answer(self, _dataset: Dataset, path: str, storage: Storage, source: Source) -> HttpResponseBase:
        blocks = iter(storage.iter_bytes(source))
        # Read before anything is sent, so that a file that cannot be read is an error page, not half a file.
        first = next(blocks, b"")
        blocks = chain([first], blocks)
        # Under ASGI, Django would gather a plain iterator's blocks in memory before it sends the first.
        body = _from_thread(blocks) if isinstance(self.request, ASGIRequest) else blocks
        headers = {**HEADERS, "Content-Type": self.content_type(bytes(first[:12]))}
        response = StreamingHttpResponse(body, headers=headers)
        response.headers["Content-Length"] = str(source.size)
        name = path.rsplit("/", 1)[-1]
        response.headers["Content-Disposition"] = content_disposition_header(True, name) or "attachment"
        return response

    def content_type(self, _head: bytes) -> str:
        """What to call the file, by its first bytes."""
        return HEADERS["Content-Type"]


async def _from_thread(blocks: Iterator[Block]) -> AsyncIterator[Block]:
    """The blocks, each read in a thread, so that a slow storage does not stop the server's other answers."""
    while block := await asyncio.to_thread(next, blocks, b""):
        yield block
