"""How far it is, on the wire: a dataset's run, with its last lines of output."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any, ClassVar

from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from crunch_tasks.contract import DatasetState
from server.api.base import problems
from server.api.parts import DatasetPart
from server.permissions import Act
from server.services import running


class StepsSerializer(serializers.Serializer[Any]):
    done = serializers.IntegerField()
    total = serializers.IntegerField()


class LogSerializer(serializers.Serializer[Any]):
    state = serializers.ChoiceField([word.value for word in DatasetState])
    stage = serializers.IntegerField(allow_null=True, help_text="The stage of the last status that counts.")
    stage_state = serializers.IntegerField(allow_null=True, help_text="The state of that.")
    progress = StepsSerializer(allow_null=True, help_text="The workflow's steps, if its client tells them.")
    text = serializers.CharField(allow_blank=True, help_text="The last lines of the output, while it is running.")
    at = serializers.DateTimeField(allow_null=True, help_text="When they were told.")


class LogView(DatasetPart):
    acts: ClassVar = {"get": Act.SEE}

    @extend_schema(responses={200: LogSerializer, **problems(401, 403, 404)})
    def get(self, _request: Request, slug: str) -> Response:  # noqa: ARG002
        """How far the dataset's run is, and the last lines that it wrote. The whole log is among its files' records."""
        dataset = self.dataset()
        tail, steps = running.log_tail(dataset), running.progress(dataset.progress)
        told = {name: getattr(dataset, name) for name in ("state", "stage", "stage_state")}
        told |= {"progress": asdict(steps) if steps else None}
        told |= {"text": tail.text, "at": tail.at} if tail else {"text": "", "at": None}
        return Response(LogSerializer(told).data)
