"""How far it is, on the wire: a dataset's run with its last lines, and the datasets of projects with their pace."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict
from typing import Any, ClassVar

from django.db.models import QuerySet
from drf_spectacular.utils import extend_schema
from rest_framework import generics, serializers
from rest_framework.request import Request
from rest_framework.response import Response

from crunch_tasks.contract import DatasetState
from server.api.base import API, problems
from server.api.filters import PROJECTS
from server.api.parts import DatasetPart, ProjectPart
from server.models import Project
from server.permissions import Act, actor_of
from server.services import counts, pace, running


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


class StatesSerializer(serializers.Serializer[Any]):
    """How many datasets of a project there are, and in each state."""

    project = serializers.CharField(help_text="Its slug.")
    total = serializers.IntegerField()
    unprocessed = serializers.IntegerField(help_text="Those that are held are counted too.")
    running = serializers.IntegerField()
    completed = serializers.IntegerField()
    failed = serializers.IntegerField()


class PaceSerializer(StatesSerializer):
    per_hour = serializers.FloatField(
        allow_null=True, help_text="How many were completed lately; null when too few were to tell."
    )
    seconds_left = serializers.FloatField(
        allow_null=True, help_text="How long the rest will take at that pace; null when it is not known, or none runs."
    )


def _states(project: Project, by_state: Counter[str]) -> dict[str, Any]:
    numbers = {state.value: by_state[state.value] for state in DatasetState}
    return {"project": project.slug, "total": sum(numbers.values()), **numbers}


class ProjectsProgressView(API, generics.GenericAPIView[Project]):
    acts: ClassVar = {"get": Act.SEE}
    queryset = Project.objects.order_by("pk")
    lists = PROJECTS

    def get_queryset(self) -> QuerySet[Project]:
        return super().get_queryset().filter(pk__in=actor_of(self.request).projects(Act.SEE).values("pk"))

    @extend_schema(responses={200: StatesSerializer(many=True), **problems(400, 401, 403, 404)})
    def get(self, _request: Request) -> Response:
        """How many datasets are in each state, project by project."""
        page = self.paginate_queryset(self.filter_queryset(self.get_queryset())) or []
        sums = counts.by_state(project.pk for project in page)
        told = [_states(project, sums[project.pk]) for project in page]
        return self.get_paginated_response(StatesSerializer(told, many=True).data)


class ProjectProgressView(ProjectPart):
    acts: ClassVar = {"get": Act.SEE}

    @extend_schema(responses={200: PaceSerializer, **problems(401, 403, 404)})
    def get(self, _request: Request, slug: str) -> Response:  # noqa: ARG002
        """How many of the project's datasets are in each state, how fast they are completed, and how long it takes."""
        project = self.project()
        by_state = counts.by_state([project.pk])[project.pk]
        rate = pace.of(project)
        told = {
            **_states(project, by_state),
            "per_hour": None if rate is None else 3600 * rate,
            "seconds_left": pace.seconds_left(by_state, rate),
        }
        return Response(PaceSerializer(told).data)
