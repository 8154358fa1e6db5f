"""ETag and If-Match: an edit of what has changed since it was read is refused, if its sender asks for that."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.db import transaction
from django.db.models import QuerySet
from django.utils.http import parse_etags
from drf_spectacular.utils import OpenApiParameter, extend_schema, extend_schema_view
from rest_framework import exceptions, status
from rest_framework.renderers import JSONRenderer
from rest_framework.request import Request
from rest_framework.response import Response

from server.models import Attribute, Dataset, Item, Project
from server.permissions import project_of
from server.services.edits import name_of

ETAG = OpenApiParameter("ETag", str, OpenApiParameter.HEADER, response=[200], description="Of this version.")
IF_MATCH = OpenApiParameter(
    "If-Match", str, OpenApiParameter.HEADER, description="The ETag of the version that was read: 412 if it is another."
)


documented = extend_schema_view(
    retrieve=extend_schema(parameters=[ETAG]),
    update=extend_schema(parameters=[IF_MATCH, ETAG]),
    partial_update=extend_schema(parameters=[IF_MATCH, ETAG]),
    destroy=extend_schema(parameters=[IF_MATCH]),
)
"""What the OpenAPI document says of tagged views."""


class Changed(exceptions.APIException):
    status_code = status.HTTP_412_PRECONDITION_FAILED
    default_code = "changed"


def of(body: Any) -> str:
    """The ETag of a node or an attribute as it is answered."""
    return f'"{hashlib.sha256(JSONRenderer().render(body)).hexdigest()[:32]}"'


class TaggedViews:
    """Mixed into the views of nodes and attributes, before DRF's own."""

    is_tagged = True

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
        """Nobody changes the row while this lasts, if the request says which version it is about. Raises Changed."""
        wanted = request.headers.get("If-Match")
        if wanted is None:
            yield
            return
        views: Any = self
        with transaction.atomic():
            _lock(views.get_object())
            row = views.get_object()
            known = parse_etags(wanted)
            if "*" not in known and of(views.get_serializer(row).data) not in known:
                raise Changed(
                    f"{name_of(row)} has changed since it was read. Read it again, and change what is there now."
                )
            yield


def _lock(row: Item | Attribute) -> None:
    # The project first: as those do who move a dataset's files, so that two edits cannot wait for each other.
    if (project := project_of(row)) is not None:
        Project.objects.select_for_update(of=("self",)).filter(pk=project.pk).first()
    rows: QuerySet[Any] = type(row)._default_manager.filter(pk=row.pk)
    rows.select_for_update(of=("self", "item_ptr") if isinstance(row, Dataset | Project) else ("self",)).first()


def _tagged(answer: Response) -> Response:
    answer["ETag"] = of(answer.data)
    return answer
