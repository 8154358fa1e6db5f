"""Many datasets of a project on the wire: why they failed, and what a person decides about a selection of them."""

from __future__ import annotations

from typing import Any, ClassVar

from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from crunch_tasks.contract import DatasetState
from server.api.base import API, problems
from server.api.fields import ActSerializer
from server.api.parts import ProjectPart
from server.models.items import SLUG_LENGTH
from server.permissions import Act, actor_of
from server.services import bulk, failures
from server.services.bulk import Operation
from server.services.selection import Selection


class FailureGroupSerializer(serializers.Serializer[Any]):
    failure = serializers.IntegerField(help_text="The group's number, for a selection.")
    stage = serializers.IntegerField()
    signature = serializers.CharField(help_text="What their errors have in common.")
    example = serializers.CharField(help_text="What the first of them said.")
    count = serializers.IntegerField(help_text="How many datasets are failed of it now.")


class OperationSerializer(ActSerializer):
    """The selection is all datasets of the project, or those that all of `state`, `search` and `failure` take in."""

    operation = serializers.ChoiceField([word.value for word in Operation])
    state = serializers.ChoiceField([word.value for word in DatasetState], required=False)
    search = serializers.CharField(required=False, max_length=SLUG_LENGTH, help_text="How their names begin.")
    failure = serializers.IntegerField(required=False, min_value=1, max_value=2**63 - 1)
    dry_run = serializers.BooleanField(default=False, help_text="Change nothing, and tell what would be.")


class OutcomeSerializer(serializers.Serializer[Any]):
    """What changed, or would."""

    dry_run = serializers.BooleanField()
    count = serializers.IntegerField()
    datasets = serializers.ListField(
        child=serializers.CharField(), source="slugs", help_text=f"Their slugs; of many, the first {bulk.LISTED}."
    )
    held = serializers.IntegerField(help_text="How many of them were held before.")
    running = serializers.IntegerField(help_text="How many of them were running.")
    more = serializers.BooleanField(
        help_text=f"With `dry_run` and a search: they are more than {bulk.MOST_COUNTED}, which are all that is counted."
    )


class FailuresView(ProjectPart, API):
    # All groups that are told are one page.
    pagination_class = None
    acts: ClassVar = {"get": Act.SEE}

    @extend_schema(responses={200: FailureGroupSerializer(many=True), **problems(401, 403, 404)})
    def get(self, _request: Request, slug: str) -> Response:  # noqa: ARG002
        """The failed datasets in groups of the same stage and a similar error, the largest first."""
        found = [
            {
                **{name: getattr(kind, name) for name in ("stage", "signature", "example")},
                "failure": kind.pk,
                "count": n,
            }
            for kind, n in failures.groups(self.project())
        ]
        return Response(FailureGroupSerializer(found, many=True).data)


class OperationsView(ProjectPart, API):
    acts: ClassVar = {"post": Act.STEER}

    @extend_schema(
        request=OperationSerializer, responses={200: OutcomeSerializer, **problems(400, 401, 403, 404, 413, 415)}
    )
    def post(self, request: Request, slug: str) -> Response:  # noqa: ARG002
        """Retry, reset, hold or let go the datasets of a selection; with `dry_run`, only tell which."""
        project = self.project()
        sent = OperationSerializer(data=request.data)
        sent.is_valid(raise_exception=True)
        asked = sent.validated_data
        chosen = Selection(project, asked.get("state", ""), asked.get("search", ""), asked.get("failure"))
        operation = Operation(asked["operation"])
        done = bulk.perform(chosen, operation, dry_run=asked["dry_run"], actor=actor_of(request))
        return Response(OutcomeSerializer({**vars(done), "dry_run": asked["dry_run"]}).data)
