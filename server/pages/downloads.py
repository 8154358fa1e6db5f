"""Handing out a dataset's files on pages; what they are sent as is in `server.streaming`."""

from __future__ import annotations

import logging
from typing import ClassVar

from django.http import Http404, HttpRequest
from django.http.response import HttpResponseBase
from django.shortcuts import render
from django.views.generic import View

from crunch_tasks.errors import CrunchError, ObjectMissing
from crunch_tasks.files.plan import Source
from crunch_tasks.files.storage import Storage
from server import streaming
from server.models import Dataset
from server.pages import find
from server.pages.allowed import allowed
from server.permissions import Act
from server.services import files

GONE = "There is no such file (any more)."

_log = logging.getLogger(__name__)


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
            trouble = files.trouble(error)
            told = {"trouble": trouble, "problem": str(error), **allowed(request, owner.project)}
            return render(request, "server/storage_away.html", {"dataset": owner, **told}, status=trouble.status)

    def answer(self, dataset: Dataset, path: str, storage: Storage, source: Source) -> HttpResponseBase:
        """What to answer with this file. Raises CrunchError when it cannot be read."""
        raise NotImplementedError


class Download(FileView):
    """One file of a dataset, whole or a range of it."""

    def answer(self, _dataset: Dataset, path: str, storage: Storage, source: Source) -> HttpResponseBase:
        return streaming.download(self.request, path, storage, source)
