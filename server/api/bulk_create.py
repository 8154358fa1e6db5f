"""Many datasets of a project in one call: all or none, and what is wrong told by row."""

from __future__ import annotations

from collections.abc import Mapping
from typing import IO, Any, ClassVar

from django.db import transaction
from drf_spectacular.utils import OpenApiResponse, extend_schema, extend_schema_field
from rest_framework import parsers, serializers, status
from rest_framework.request import Request
from rest_framework.response import Response

from server.api.base import bounded_json, problems
from server.api.catalogue import ProjectViews
from server.api.fields import ActSerializer, unknown
from server.api.nodes import AttributeValueShape, DatasetSerializer
from server.kinds import KINDS
from server.models.attributes import KEY_LENGTH
from server.permissions import Act, actor_of
from server.services import audit, bulk_create

MOST = 10_000
"""Datasets of one call."""

MOST_ATTRIBUTES = 100_000
MOST_BYTES = 32 * 1024 * 1024


class LongJSONParser(parsers.BaseParser):
    """JSON that may be longer than other bodies. It is none of DRF's own, which holds those to the site's limit."""

    media_type = "application/json"
    limit = MOST_BYTES

    def parse(
        self, stream: IO[Any], media_type: str | None = None, parser_context: Mapping[str, Any] | None = None
    ) -> Any:
        return bounded_json(stream, self.limit, media_type, parser_context)


class NewAttributeShape(AttributeValueShape):
    kind = serializers.ChoiceField(list(KINDS), required=False, help_text="As the value looks, if it is left out.")


@extend_schema_field(NewAttributeShape(many=True))
class NewAttributesField(serializers.Field[Any, Any, Any, Any]):
    """Attributes as the columns of `server.models.Attribute`."""

    def __init__(self) -> None:
        super().__init__(required=False, write_only=True)
        self.key = serializers.CharField(max_length=KEY_LENGTH)
        self.parts = {(kind, part): KINDS[kind].field(part) for kind in KINDS for part in KINDS[kind].columns}

    def to_internal_value(self, data: Any) -> list[dict[str, Any]]:
        if not isinstance(data, list):
            raise serializers.ValidationError("A list of attributes is needed.")
        found, problems = [], []
        for number, attribute in enumerate(data, 1):
            try:
                found.append(self._one(attribute))
            except serializers.ValidationError as error:
                key = attribute.get("key") if isinstance(attribute, dict) else None
                name = key if isinstance(key, str) and key else f"number {number}"
                problems.append(f"{name}: {' '.join(_sentences(error.detail))}")
        if problems:
            raise serializers.ValidationError(problems)
        return found

    def _one(self, attribute: Any) -> dict[str, Any]:
        if not isinstance(attribute, dict):
            raise serializers.ValidationError("An attribute has a key and a value, or latitude and longitude.")
        kind = attribute.get("kind", _kind_of(attribute))
        if not isinstance(kind, str) or kind not in KINDS:
            raise serializers.ValidationError(f"A kind is one of {', '.join(KINDS)}.")
        if wrong := unknown(attribute, ("kind", "key", *KINDS[kind].columns)):
            raise serializers.ValidationError([f"{name}: {told}" for name, [told] in wrong.items()])
        values = {"kind": kind, "key": self.key.run_validation(attribute.get("key", serializers.empty))}
        for part, column in KINDS[kind].columns.items():
            values[column] = self.parts[kind, part].run_validation(attribute.get(part, serializers.empty))
        return values


def _kind_of(attribute: dict[str, Any]) -> str:
    """The kind of an attribute that names none, by the type of its value."""
    if "latitude" in attribute or "longitude" in attribute:
        return "lat-long"
    return {bool: "bool", int: "int", float: "float"}.get(type(attribute.get("value")), "char")


def _sentences(detail: Any) -> list[str]:
    return [str(sentence) for sentence in (detail if isinstance(detail, list) else [detail])]


class NewDatasetSerializer(DatasetSerializer):
    attributes = NewAttributesField()  # type: ignore[assignment]

    class Meta(DatasetSerializer.Meta):
        fields = ["name", "description", "details", "locked", "priority", "needs", "base_file_path", "attributes"]
        read_only_fields: list[str] = []


@extend_schema_field(NewDatasetSerializer(many=True))
class NewDatasetsField(serializers.ListField):
    """The rows as they came; what each says is checked after all were counted."""

    default_error_messages = {"max_length": f"At most {MOST} datasets go in one call. Send the others in another."}


class BulkSerializer(ActSerializer):
    datasets = NewDatasetsField(max_length=MOST, allow_empty=False)
    skip_existing = serializers.BooleanField(default=False, help_text="Leave those alone that there are already.")
    dry_run = serializers.BooleanField(default=False, help_text="Make none, and tell what is wrong.")


class MadeDatasetSerializer(serializers.Serializer[Any]):
    row = serializers.IntegerField(help_text="Its place in the request; the first is 1.")
    id = serializers.IntegerField(allow_null=True, help_text="Null after a dry run.")
    slug = serializers.CharField()
    base_file_path = serializers.CharField()


class BulkAnswerSerializer(serializers.Serializer[Any]):
    created = MadeDatasetSerializer(many=True)
    existing = serializers.ListField(child=serializers.CharField(), help_text="The slugs of those left alone.")


class WrongRowSerializer(serializers.Serializer[Any]):
    row = serializers.IntegerField(help_text="Its place in the request; the first is 1.")
    errors = serializers.DictField(  # type: ignore[assignment]
        help_text="The fields that are wrong, with sentences for each."
    )


class BulkViews(ProjectViews):
    acts: ClassVar = {"bulk": Act.EDIT}
    most_bytes = MOST_BYTES
    parser_classes = [LongJSONParser]

    @extend_schema(
        request=BulkSerializer,
        responses={
            200: OpenApiResponse(BulkAnswerSerializer, "None was made: a dry run, or all were there."),
            201: BulkAnswerSerializer,
            **problems(400, 401, 403, 404, 409),
        },
    )
    def bulk(self, request: Request, **_: Any) -> Response:
        """Make many datasets of the project with their attributes, all or none.

        400 tells what is wrong by row: `{"rows": [{"row": 17, "errors": {"name": ["This field is required."]}}]}`.
        """
        project = self.get_object()
        sent = BulkSerializer(data=request.data)
        sent.is_valid(raise_exception=True)
        words = {name: sent.validated_data[name] for name in ("skip_existing", "dry_run")}
        try:
            rows, wrong = _checked(sent.validated_data["datasets"])
            with transaction.atomic():
                made = bulk_create.create_datasets(project, rows, wrong=wrong, **words)
                if made.datasets and not words["dry_run"]:
                    after = {"count": len(made.datasets)}
                    audit.note(actor_of(request), "create datasets", project.slug, project, after=after)
        except bulk_create.RowsWrong as error:
            told = [{"row": row, "errors": errors} for row, errors in error.rows.items()]
            return Response({"rows": told}, status=status.HTTP_400_BAD_REQUEST)
        created = [
            {"row": row, "id": dataset.pk, "slug": dataset.slug, "base_file_path": dataset.base_file_path}
            for row, dataset in made.datasets.items()
        ]
        is_new = created and not words["dry_run"]
        code = status.HTTP_201_CREATED if is_new else status.HTTP_200_OK
        return Response({"created": created, "existing": made.existing}, status=code)


def _checked(rows: list[Any]) -> tuple[dict[int, bulk_create.NewDataset], bulk_create.Errors]:
    """The good rows by number, and what is wrong with the others. Raises ValidationError for too many attributes."""
    serializer, found, errors = NewDatasetSerializer(), {}, {}
    for number, row in enumerate(rows, 1):
        try:
            values = serializer.run_validation(row)
        except serializers.ValidationError as error:
            detail = error.detail if isinstance(error.detail, dict) else {"non_field_errors": error.detail}
            errors[number] = {str(name): _sentences(told) for name, told in detail.items()}
            continue
        attributes = values.pop("attributes", [])
        found[number] = bulk_create.NewDataset(values, attributes)
    if sum(len(new.attributes) for new in found.values()) > MOST_ATTRIBUTES:
        told = f"At most {MOST_ATTRIBUTES} attributes go in one call. Send some of the datasets in another."
        raise serializers.ValidationError({"datasets": told})
    return found, errors
