"""Looking at a file without downloading it: the beginning of a text, or an image; nothing that a browser would run.

What a file is, its bytes say, not its name. HTML and SVG are texts: one sees how they are written.
"""

from __future__ import annotations

import codecs
import contextlib
from typing import Any

from django.http import Http404, HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import render

from crunch_tasks.files.plan import Source
from crunch_tasks.files.storage import Storage
from server import streaming
from server.models import Dataset
from server.pages import find
from server.pages.downloads import FileView
from server.pages.files import version
from server.pages.live import asks_for_news

TEXT_BYTES = 64 * 1024
"""How much of a text is shown, in bytes."""

IMAGE_BYTES = 32 * 1024 * 1024
"""Larger images are not shown, in bytes: a phone would choke on them."""


def image_type(head: bytes) -> str:
    """The media type of an image of the four kinds that are shown, by its first 12 bytes; "" for all else."""
    for magic, kind in ((b"\x89PNG\r\n\x1a\n", "image/png"), (b"\xff\xd8\xff", "image/jpeg")):
        if head.startswith(magic):
            return kind
    if head.startswith((b"GIF87a", b"GIF89a")):
        return "image/gif"
    return "image/webp" if head[:4] == b"RIFF" and head[8:12] == b"WEBP" else ""


def text_of(head: bytes, *, whole: bool) -> str | None:
    """The text that a file begins with, or None when it is none in UTF-8; a cut character at the end is left out."""
    if b"\x00" in head:
        return None
    try:
        return codecs.getincrementaldecoder("utf-8-sig")().decode(head, final=whole)
    except UnicodeDecodeError:
        return None


class Preview(FileView):
    """The page of one file."""

    def answer(self, dataset: Dataset, path: str, storage: Storage, source: Source) -> HttpResponse:
        return self._page(dataset, path, {"info": source, **_shown(storage, source)})

    def get(self, request: HttpRequest, project: str, dataset: str, path: str) -> HttpResponseBase:
        if asks_for_news(request):
            return self._page(find.dataset(request, project, dataset), path, {})
        return super().get(request, project, dataset, path)

    def _page(self, dataset: Dataset, path: str, file: dict[str, Any]) -> HttpResponse:
        *folders, name = path.split("/")
        place = {"project": dataset.project, "dataset": dataset, "path": path, "folders": folders, "name": name}
        return render(self.request, "server/preview.html", {**place, **file, "version": version(dataset)})


def _shown(storage: Storage, source: Source) -> dict[str, Any]:
    head = bytearray()
    with contextlib.closing(streaming.blocks(storage, source)) as blocks:
        for block in blocks:
            head += block[: TEXT_BYTES - len(head)]
            if len(head) >= TEXT_BYTES:
                break
    whole = source.size <= len(head)
    is_image = bool(image_type(bytes(head[:12])))
    return {
        "is_image": is_image and source.size <= IMAGE_BYTES,
        "is_large_image": is_image and source.size > IMAGE_BYTES,
        "text": None if is_image else text_of(bytes(head), whole=whole),
        "whole": whole,
        "is_compared": whole or not source.is_md5_published,
    }


class Image(FileView):
    """An image for its page. It too is an attachment to whoever opens its address, and never a page of this site."""

    http_method_names = ["get"]

    def answer(self, _dataset: Dataset, path: str, storage: Storage, source: Source) -> HttpResponseBase:
        return streaming.whole(self.request, path, storage, source, kind=_image_type_or_404)


def _image_type_or_404(head: bytes) -> str:
    kind = image_type(head)
    if not kind:
        raise Http404("This is no image that can be shown.")
    return kind
