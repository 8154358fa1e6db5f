"""Statuses on the wire: list, create."""

from __future__ import annotations

import re
from typing import Any, ClassVar

from django.db.models import QuerySet
from drf_spectacular.utils import OpenApiResponse, extend_schema
from rest_framework import generics, serializers, status
from rest_framework.request import Request
from rest_framework.response import Response

from crunch_tasks.contract import DIAGNOSTICS, Stage, State
from crunch_tasks.errors import Refused
from server.api.base import API, ProblemSerializer, problems, signed_in
from server.api.fields import CappedTextField, NoteField, OptionalTextField, WebAddressField
from server.api.filters import STATUSES
from server.models import Dataset, Status
from server.models.statuses import DIAGNOSTIC_LENGTH
from server.permissions import Act, actor_of
from server.services import statuses

INT64 = 2**63 - 1
SHA256 = re.compile("[0-9a-f]{64}")


class StatusSerializer(serializers.ModelSerializer[Status]):
    refusal = serializers.CharField(read_only=True, help_text="Why it changed nothing; empty when it was current.")

    class Meta:
        model = Status
        fields = [
            *("id", "dataset", "site_user", "stage", "state", "note", *DIAGNOSTICS),
            *("claim", "fence", "event_id", "flow_run_id", "manifest_sha256", "effective", "refusal", "created"),
        ]
        read_only_fields = fields


class SizeField(serializers.IntegerField):
    def __init__(self) -> None:
        super().__init__(required=False, allow_null=True, min_value=-INT64, max_value=INT64)


class StatusEventSerializer(serializers.Serializer[Any]):
    """What a client posts. With a claim, its fence and an event_id are needed too."""

    dataset = serializers.IntegerField(min_value=1, max_value=INT64)
    stage = serializers.ChoiceField([(word.value, word.name) for word in Stage])
    state = serializers.ChoiceField([(word.value, word.name) for word in State])
    note = NoteField()
    claim = serializers.IntegerField(required=False, allow_null=True, min_value=1, max_value=INT64)
    fence = serializers.IntegerField(required=False, allow_null=True, min_value=0, max_value=INT64)
    event_id = OptionalTextField(max_length=100)
    site = OptionalTextField(max_length=36, help_text="The site of the claim's answer.")
    flow_run_id = CappedTextField(cap=64)
    flow_run_url = WebAddressField()
    manifest_sha256 = OptionalTextField(help_text="64 lower-case hex digits; without a claim it means nothing.")

    def get_fields(self) -> dict[str, Any]:
        told: dict[str, Any] = {
            name: CappedTextField(cap=DIAGNOSTIC_LENGTH) if kind is str else SizeField()
            for name, kind in DIAGNOSTICS.items()
        }
        return {**super().get_fields(), **told}

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        if attrs.get("claim") is None:
            return {**attrs, "manifest_sha256": ""}
        for name in ("fence", "event_id"):
            if attrs.get(name) in (None, ""):
                raise serializers.ValidationError({name: "A status of a claim needs it."})
        if attrs["manifest_sha256"] and not SHA256.fullmatch(attrs["manifest_sha256"]):
            raise serializers.ValidationError({"manifest_sha256": "A SHA-256 is 64 lower-case hex digits."})
        return attrs

    def event(self) -> statuses.Event:
        """The posted event; after `is_valid`."""
        values = dict(self.validated_data)
        diagnostics = {name: values.pop(name) for name in DIAGNOSTICS if name in values}
        stage, state = Stage(values.pop("stage")), State(values.pop("state"))
        return statuses.Event(**values, stage=stage, state=state, diagnostics=diagnostics)


class StatusesView(API, generics.ListAPIView[Status]):
    acts: ClassVar = {"get": Act.SEE_MACHINES, "post": Act.RUN}
    serializer_class = StatusSerializer
    queryset = Status.objects.order_by("pk")

    lists = STATUSES

    def get_queryset(self) -> QuerySet[Status]:
        projects = actor_of(self.request).projects(Act.SEE_MACHINES)
        return super().get_queryset().filter(dataset__project__in=projects.values("pk"))

    def get(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """Statuses, oldest first unless asked otherwise."""
        return super().get(request, *args, **kwargs)

    @extend_schema(
        request=StatusEventSerializer,
        responses={
            200: OpenApiResponse(StatusSerializer, "The same event again: its first outcome."),
            201: StatusSerializer,
            **problems(400, 401, 403, 404, 422),
            409: OpenApiResponse(ProblemSerializer, "The lease is lost; the status is kept as history."),
        },
    )
    def post(self, request: Request) -> Response:
        """Report that a stage of a dataset's run reached a state. `effective` tells whether it changed anything."""
        sent = StatusEventSerializer(data=request.data)
        sent.is_valid(raise_exception=True)
        event = sent.event()
        dataset = Dataset.objects.select_related("project").filter(pk=event.dataset).first()
        if dataset is None or not actor_of(request).may(Act.SEE, dataset.project):
            raise Refused("There is no such dataset (any more).", 404, "not_found")
        self.check_object_permissions(request, dataset)
        kept, new = statuses.record(signed_in(request), event)
        if kept.refusal in statuses.LOST:
            problem = {"detail": f"The lease is lost: {kept.get_refusal_display()}.", "code": kept.refusal}
            return Response(problem, status=status.HTTP_409_CONFLICT)
        return Response(StatusSerializer(kept).data, status=status.HTTP_201_CREATED if new else status.HTTP_200_OK)
