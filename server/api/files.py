"""A dataset's files on the wire: their list, each one's bytes, and sending one, also straight into the storage."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar
from urllib.parse import quote

from django.http.response import HttpResponseBase
from django.utils.http import parse_etags
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, OpenApiResponse, extend_schema
from rest_framework import serializers, status
from rest_framework.negotiation import BaseContentNegotiation
from rest_framework.request import Request
from rest_framework.response import Response

from crunch_tasks.errors import CrunchError, ObjectMissing, Refused
from server import streaming
from server.api import tags
from server.api.base import problems
from server.api.fields import ActSerializer
from server.api.parts import DatasetPart
from server.kinds import ExplicitBooleanField
from server.models import Dataset
from server.permissions import Act, actor_of
from server.services import direct_uploads, files, uploads

PATH = OpenApiParameter("path", str, OpenApiParameter.PATH, description="The file's name below the dataset's folder.")
RANGES = [
    OpenApiParameter("Range", str, OpenApiParameter.HEADER, description="One range of bytes, such as `bytes=100-`."),
    OpenApiParameter("If-Range", str, OpenApiParameter.HEADER, description="The ETag that the file must still have."),
    OpenApiParameter("If-None-Match", str, OpenApiParameter.HEADER, description="The ETag of the file that one has."),
]
ETAG = OpenApiParameter(
    "ETag", str, OpenApiParameter.HEADER, response=[200, 206, 304], description="The file's MD5, where it is known."
)
CONDITIONS = [
    OpenApiParameter("If-Match", str, OpenApiParameter.HEADER, description="The ETag of the file to be replaced."),
    OpenApiParameter("If-None-Match", str, OpenApiParameter.HEADER, description="`*`: only if there is no such file."),
]
REPLACE = "Take the place of a file that was added earlier."

_log = logging.getLogger(__name__)


class FileSerializer(serializers.Serializer[Any]):
    path = serializers.CharField()
    size = serializers.IntegerField(help_text="In bytes.")
    md5 = serializers.CharField(allow_blank=True, help_text="Empty when it is not known.")
    problem = serializers.CharField(allow_blank=True, help_text="What is wrong with its name, if anything.")
    url = serializers.CharField(allow_null=True, help_text="Where it can be fetched; null with a problem.")


class ListingSerializer(serializers.Serializer[Any]):
    published = serializers.BooleanField(
        help_text="Whether these are what the last run published and no others. If not, the next run starts from them."
    )
    cut = serializers.BooleanField(help_text=f"Whether there are more: no more than {files.LISTED} are listed.")
    files = FileSerializer(many=True)
    records = FileSerializer(many=True, help_text="Crunch's own: the manifests and logs of its runs.")


class ReplaceSerializer(ActSerializer):
    replace = ExplicitBooleanField(default=False, help_text=REPLACE)


class BeginSerializer(ReplaceSerializer):
    path = serializers.CharField(trim_whitespace=False)
    size = serializers.IntegerField(min_value=0, help_text="In bytes.")
    md5 = serializers.CharField(help_text="32 lower-case hex digits.")


class BegunSerializer(serializers.Serializer[Any]):
    address = serializers.CharField(help_text="Where to PUT the bytes; whoever has it may, for ten minutes.")
    headers = serializers.DictField(child=serializers.CharField(), help_text="To be sent with them.")
    ticket = serializers.CharField(help_text="For the end.")


class EndSerializer(ActSerializer):
    path = serializers.CharField(trim_whitespace=False)
    ticket = serializers.CharField()


class ArrivedSerializer(serializers.Serializer[Any]):
    path = serializers.CharField()
    size = serializers.IntegerField()
    md5 = serializers.CharField()


class AsItIs(BaseContentNegotiation):
    """A file is sent as it is, whatever media type is asked for; so is a problem."""

    def select_parser(self, _request: Any, parsers: Any) -> Any:
        return parsers[0]

    def select_renderer(self, _request: Any, renderers: Any, _format_suffix: Any = None) -> Any:
        return renderers[0], renderers[0].media_type


class FilesPart(DatasetPart):
    """A view that asks the storage for a dataset's files."""

    @contextmanager
    def asking(self, dataset: Dataset) -> Iterator[None]:
        """What the storage cannot do is a problem (503, 409); how it says so is told to members of the project."""
        try:
            yield
        except Refused:
            raise
        except CrunchError as error:
            _log.warning("the storage of %s: %s", dataset.slug, error)
            told = actor_of(self.request).may(Act.SEE_MACHINES, dataset.project)
            trouble = files.trouble(error)
            raise Refused(f"{trouble}: {error}" if told else f"{trouble}.", trouble.status, trouble.code) from None


class FilesView(FilesPart):
    acts: ClassVar = {"get": Act.SEE}

    @extend_schema(
        operation_id="datasets_files", responses={200: ListingSerializer, **problems(401, 403, 404, 409, 503)}
    )
    def get(self, request: Request, slug: str) -> Response:  # noqa: ARG002
        """The dataset's files, as last published or, before that, as they are in the storage.

        What was added since it was published is listed until it is completed.
        """
        dataset = self.dataset()
        with self.asking(dataset):
            found = files.listing(dataset)
        base = request.build_absolute_uri(request.path)
        # Not by the serializer: they may be thousands.
        return Response(
            {
                **{"published": found.published, "cut": found.cut},
                "files": [_listed(file, base) for file in found.files],
                "records": [_listed(file, base) for file in found.records],
            }
        )


class FileView(FilesPart):
    acts: ClassVar = {"get": Act.SEE, "put": Act.EDIT}
    parameters: ClassVar = {"replace"}
    most_bytes = uploads.MOST_BYTES
    content_negotiation_class = AsItIs

    @extend_schema(
        operation_id="datasets_file",
        parameters=[PATH, *RANGES, ETAG],
        responses={
            (200, streaming.OCTETS): OpenApiTypes.BINARY,
            (206, streaming.OCTETS): OpenApiResponse(OpenApiTypes.BINARY, "The range that was asked for."),
            304: OpenApiResponse(description="It is the file that one has: see If-None-Match."),
            **problems(401, 403, 404, 409, 416, 503),
        },
    )
    def get(self, request: Request, slug: str, path: str) -> HttpResponseBase:
        """The file's bytes, all or one range of them."""
        dataset = self.dataset()
        gone = Refused(f"{slug} has no file {path!r} (any more).", 404, "not_found")
        with self.asking(dataset):
            try:
                found = files.find(dataset, path)
                if found is None:
                    raise gone
                return streaming.download(request._request, path, *found)
            except ObjectMissing:
                raise gone from None

    @extend_schema(
        operation_id="datasets_file_put",
        parameters=[PATH, *CONDITIONS, OpenApiParameter("replace", bool, description=REPLACE)],
        request={streaming.OCTETS: OpenApiTypes.BINARY},
        responses={201: ArrivedSerializer, **problems(400, 401, 403, 404, 409, 411, 412, 413, 415, 503)},
    )
    def put(self, request: Request, slug: str, path: str) -> Response:  # noqa: ARG002
        """Add the body as a file of the dataset, an input of its next run. 409: the dataset takes none, or not this.

        412: the file that is there is another than the headers say.
        """
        dataset = self.dataset()
        asked = ReplaceSerializer(data=request.query_params)
        asked.is_valid(raise_exception=True)
        with self.asking(dataset):
            arrived = uploads.store(
                actor_of(request),
                dataset,
                path,
                request._request,
                check=lambda: _check_unchanged(request, dataset, path),
                **asked.validated_data,
            )
        return Response(ArrivedSerializer(arrived).data, status=status.HTTP_201_CREATED)


class BeginView(FilesPart):
    acts: ClassVar = {"post": Act.EDIT}

    @extend_schema(
        request=BeginSerializer, responses={201: BegunSerializer, **problems(400, 401, 403, 404, 409, 413, 503)}
    )
    def post(self, request: Request, slug: str) -> Response:  # noqa: ARG002
        """An address at which the storage itself takes the file. 409 `through_server`: it has none, PUT it here."""
        dataset = self.dataset()
        asked = BeginSerializer(data=request.data)
        asked.is_valid(raise_exception=True)
        with self.asking(dataset):
            begun = direct_uploads.begin(dataset, **asked.validated_data)
        return Response(BegunSerializer(begun).data, status=status.HTTP_201_CREATED)


class EndView(FilesPart):
    acts: ClassVar = {"post": Act.EDIT}

    @extend_schema(request=EndSerializer, responses={201: ArrivedSerializer, **problems(400, 401, 403, 404, 409, 503)})
    def post(self, request: Request, slug: str) -> Response:  # noqa: ARG002
        """Make what was put at the address a file of the dataset, once it is found to be what was announced."""
        dataset = self.dataset()
        asked = EndSerializer(data=request.data)
        asked.is_valid(raise_exception=True)
        with self.asking(dataset):
            arrived = direct_uploads.end(actor_of(request), dataset, **asked.validated_data)
        return Response(ArrivedSerializer(arrived).data, status=status.HTTP_201_CREATED)


def _check_unchanged(request: Request, dataset: Dataset, path: str) -> None:
    """Raises tags.Changed unless the file that is there is as If-Match and If-None-Match say."""
    wanted, unwanted = (request.headers.get(name) for name in ("If-Match", "If-None-Match"))
    if wanted is None and unwanted is None:
        return
    found = files.find(Dataset.objects.get(pk=dataset.pk), path)
    there = set() if found is None else {"*", streaming.etag_of(found[1])} - {""}
    if not {*there, *(f"W/{etag}" for etag in there)}.isdisjoint(parse_etags(unwanted or "")):
        raise tags.Changed(f"There is a file {path!r} already.")
    if wanted is not None and there.isdisjoint(parse_etags(wanted)):
        raise tags.Changed(
            f"{path!r} is not the file of this ETag, or nobody knows its MD5 here. Look at what is there now."
        )


def _listed(file: files.File, base: str) -> dict[str, Any]:
    return {**vars(file), "url": None if file.problem else base + quote(file.path)}
