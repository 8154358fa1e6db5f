"""ETag and If-Match: an edit of what has changed since it was read is refused, if its sender asks for that."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.db import transaction
from django.utils.http import parse_etags
from drf_spectacular.utils import OpenApiParameter
from rest_framework import exceptions, status
from rest_framework.renderers import JSONRenderer
from rest_framework.request import Request
from rest_framework.response import Response

from server.models import Dataset, Item, Project

ETAG = OpenApiParameter("ETag", str, OpenApiParameter.HEADER, response=[200], description="Of this version.")
IF_MATCH = OpenApiParameter(
    "If-Match", str, OpenApiParameter.HEADER, description="The ETag of the version that was read: 412 if it is another."
)


class Changed(exceptions.APIException):
    status_code = status.HTTP_412_PRECONDITION_FAILED
    default_code = "changed"


def of(body: Any) -> str:
    """The ETag of a node as it is answered."""
    return f'"{hashlib.sha256(JSONRenderer().render(body)).hexdigest()[:32]}"'


class TaggedViews:
    """Mixed into the views of nodes, before DRF's own."""

    def retrieve(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        return _tagged(super().retrieve(request, *args, **kwargs))  # type: ignore[misc]

    def update(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        with self._unchanged(request):
            return _tagged(super().update(request, *args, **kwargs))  # type: ignore[misc]

    def destroy(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        with self._unchanged(request):
            answer: Response = super().destroy(request, *args, **kwargs)  # type: ignore[misc]
            return answer

    @contextmanager
    def _unchanged(self, request: Request) -> Iterator[None]:
        """Nobody changes the node while this lasts, if the request says which version it is about. Raises Changed."""
        wanted = request.headers.get("If-Match")
        if wanted is None:
            yield
            return
        views: Any = self
        with transaction.atomic():
            _lock(views.get_object())
            node = views.get_object()
            known = parse_etags(wanted)
            if "*" not in known and of(views.get_serializer(node).data) not in known:
                raise Changed(
                    f"{node.slug} has changed since it was read. Read it again, and change what is there now."
                )
            yield


def _lock(node: Item) -> None:
    # The project first: as those do who move a dataset's files, so that two edits cannot wait for each other.
    if isinstance(node, Dataset):
        Project.objects.select_for_update(of=("self",)).filter(pk=node.project_id).first()
    rows = type(node)._default_manager.filter(pk=node.pk)
    rows.select_for_update(of=("self",) if type(node) is Item else ("self", "item_ptr")).first()


def _tagged(answer: Response) -> Response:
    answer["ETag"] = of(answer.data)
    return answer
