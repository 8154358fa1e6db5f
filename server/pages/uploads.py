"""Files that are sent from a dataset's page: through the server, or straight into the storage in two steps."""

from __future__ import annotations

from typing import Any, ClassVar
from urllib.parse import urlsplit

from django.http import HttpRequest, JsonResponse
from django.views.generic import View

from crunch_tasks.errors import CrunchError, Refused
from server.checks import is_elsewhere
from server.models import Dataset
from server.pages import find
from server.permissions import Act, actor_of
from server.services import direct_uploads, files, uploads


def origin(request: HttpRequest, dataset: Dataset) -> str:
    """Where the dataset's page may send files to (`https://host:port`), or "" when only through this server."""
    try:
        storage: Any = files.place(dataset)[0]
        found = direct_uploads.origin(storage)
    except CrunchError:
        return ""
    parts = urlsplit(found)
    # A browser would refuse the first, and takes the second for the machine that it runs on.
    is_mixed = request.is_secure() and parts.scheme != "https"
    is_here = not is_elsewhere(parts.hostname or "") and is_elsewhere(
        urlsplit(f"//{request.get_host()}").hostname or ""
    )
    return "" if is_mixed or is_here else found


class UploadView(View):
    """A step of sending a file, by whoever may edit the dataset; what goes wrong is JSON with a sentence."""

    http_method_names = ["post"]
    acts: ClassVar = {"post": Act.EDIT}

    def post(self, request: HttpRequest, project: str, dataset: str, path: str) -> JsonResponse:
        owner = find.dataset(request, project, dataset, self.acts["post"])
        try:
            return self.take(owner, path)
        except Refused as error:
            return JsonResponse({"detail": str(error), "code": error.code}, status=error.status)
        except CrunchError as error:
            trouble = files.trouble(error)
            return JsonResponse({"detail": f"{trouble}: {error}", "code": trouble.code}, status=trouble.status)
        except Dataset.DoesNotExist:
            return JsonResponse({"detail": f"{owner.slug} was deleted meanwhile.", "code": "not_found"}, status=404)

    def take(self, owner: Dataset, path: str) -> JsonResponse:
        """Do the step. Raises Refused, and CrunchError of the storage."""
        raise NotImplementedError


class Upload(UploadView):
    """`replace` in the query lets the file take the place of one that was added earlier."""

    most_bytes = uploads.MOST_BYTES

    def take(self, owner: Dataset, path: str) -> JsonResponse:
        replace = "replace" in self.request.GET
        return _there(uploads.store(actor_of(self.request), owner, path, self.request, replace=replace))


class Begin(UploadView):
    """`size` in bytes, `md5` and perhaps `replace` are in the form; the answer has the address and a ticket."""

    def take(self, owner: Dataset, path: str) -> JsonResponse:
        form = self.request.POST
        size = uploads.whole_number(form.get("size", ""))
        begun = direct_uploads.begin(owner, path, size, form.get("md5", ""), replace="replace" in form)
        return JsonResponse(vars(begun))


class End(UploadView):
    """`ticket` in the form is that of the begin, and the object is there."""

    def take(self, owner: Dataset, path: str) -> JsonResponse:
        return _there(direct_uploads.end(actor_of(self.request), owner, path, self.request.POST.get("ticket", "")))


def _there(arrived: uploads.Arrived) -> JsonResponse:
    return JsonResponse(vars(arrived), status=201)
