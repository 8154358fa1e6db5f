"""The views of projects, datasets and items, and of what a person decides about one of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from django.db import transaction
from django.db.models import QuerySet
from django.http import Http404
from drf_spectacular.utils import extend_schema, inline_serializer
from rest_framework import exceptions, serializers, viewsets
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from server.api import tags
from server.api.base import API, problems, signed_in
from server.api.claims import CancelAnswerSerializer
from server.api.fields import ActSerializer
from server.api.filters import DATASETS, ITEMS, PROJECTS
from server.api.nodes import DatasetSerializer, ItemSerializer, ProjectSerializer
from server.api.noted import CATALOGUE_ACTS, check_item, noted
from server.models import Dataset, Item, Project
from server.models.items import descendants
from server.permissions import Act, actor_of, project_of
from server.services import audit, bulk, datasets, edits


class ResetSerializer(ActSerializer):
    take_files = serializers.BooleanField(
        default=False, help_text="Start from the files as they are in the storage, not from what was published last."
    )


class RetrySerializer(ActSerializer):
    dry_run = serializers.BooleanField(default=False, help_text="Change nothing, and tell what would be retried.")


class RetryDatasetSerializer(RetrySerializer, ResetSerializer):
    """Of one dataset."""


class RetriedSerializer(serializers.Serializer[Any]):
    """What is unprocessed again, or would be."""

    dry_run = serializers.BooleanField()
    count = serializers.IntegerField()
    datasets = serializers.ListField(
        child=serializers.CharField(), help_text=f"Their slugs; of many, the first {bulk.LISTED}."
    )
    held = serializers.IntegerField(help_text="How many are held: nobody claims them until they are let go.")


def _retried(done: bulk.Outcome, dry_run: bool) -> Response:
    told = {"dry_run": dry_run, "count": done.count, "datasets": done.slugs, "held": done.held}
    return Response(RetriedSerializer(told).data)


@tags.documented
class NodeViews(tags.TaggedViews, API, viewsets.ModelViewSet[Any]):
    acts: ClassVar = CATALOGUE_ACTS
    lookup_field = "slug"
    lookup_value_regex = "[^/]+"

    def get_object(self) -> Any:
        slug = self.kwargs["slug"]
        unknown = exceptions.NotFound(f"There is no {self.get_queryset().model._meta.verbose_name} {slug!r}.")
        # PostgreSQL takes no NUL, not even to look for it.
        if "\x00" in slug:
            raise unknown
        try:
            return super().get_object()
        except Http404:
            raise unknown from None

    def perform_create(self, serializer: Any) -> None:
        if parent := serializer.validated_data.get("parent"):
            check_item(self, parent)
        noted(self, serializer)

    def perform_update(self, serializer: Any) -> None:
        noted(self, serializer)

    def perform_destroy(self, instance: Any) -> None:
        edits.delete(actor_of(self.request), instance)


class SteeredViews(NodeViews):
    """Of nodes that are processed: who may steer that may change some of their fields, and retry them."""

    acts: ClassVar = {
        **CATALOGUE_ACTS,
        # Which field needs which act is in CHANGES_OF; whoever may change any of them gets that far.
        "update": Act.STEER,
        "partial_update": Act.STEER,
        "retry": Act.STEER,
    }

    def check_object_permissions(self, request: Request, obj: Any) -> None:
        """As for all acts; whoever may change nothing is told what the change that was asked for needs."""
        actor = actor_of(request)
        if self.action in ("update", "partial_update") and not actor.may(self.act, project_of(obj)):
            sent = request.data if isinstance(request.data, Mapping) else {}
            shown = self.get_serializer(obj).data
            edits.require_fields(actor, obj, [name for name, value in sent.items() if value != shown.get(name)])
        super().check_object_permissions(request, obj)

    def perform_update(self, serializer: Any) -> None:
        edits.require_changes(actor_of(self.request), serializer.instance, serializer.validated_data)
        super().perform_update(serializer)


class ProjectViews(SteeredViews):
    acts: ClassVar = {
        **SteeredViews.acts,
        "create": Act.CREATE_PROJECT,
        "destroy": Act.MANAGE,
        "reset_failed": Act.STEER,
    }
    queryset = Project.objects.order_by("pk")
    serializer_class = ProjectSerializer
    lists = PROJECTS

    def get_queryset(self) -> QuerySet[Project]:
        return super().get_queryset().filter(pk__in=actor_of(self.request).projects(Act.SEE).values("pk"))

    @extend_schema(
        request=None,
        responses={
            200: inline_serializer("Reset", {"reset": serializers.IntegerField()}),
            **problems(400, 401, 403, 404),
        },
    )
    @action(detail=True, methods=["post"], url_path="reset-failed")
    def reset_failed(self, request: Request, **_: Any) -> Response:
        """As `retry` without a trial, told by its number alone."""
        ActSerializer(data=request.data).is_valid(raise_exception=True)
        return Response({"reset": self._retry_failed(dry_run=False).count})

    @extend_schema(request=RetrySerializer, responses={200: RetriedSerializer, **problems(400, 401, 403, 404)})
    @action(detail=True, methods=["post"])
    def retry(self, request: Request, **_: Any) -> Response:
        """Make all failed datasets of the project unprocessed again; with `dry_run`, only tell which."""
        sent = RetrySerializer(data=request.data)
        sent.is_valid(raise_exception=True)
        dry_run = sent.validated_data["dry_run"]
        return _retried(self._retry_failed(dry_run), dry_run)

    def _retry_failed(self, dry_run: bool) -> bulk.Outcome:
        project = self.get_object()
        with transaction.atomic():
            done = datasets.retry_failed(project, dry_run=dry_run)
            if done.count and not dry_run:
                audit.note(actor_of(self.request), "retry", project.slug, project, after={"count": done.count})
        return done


class DatasetViews(SteeredViews):
    acts: ClassVar = {**SteeredViews.acts, "cancel": Act.STEER, "reset": Act.STEER}
    queryset = Dataset.objects.select_related("parent", "project").prefetch_related("attributes").order_by("pk")
    serializer_class = DatasetSerializer
    lists = DATASETS
    tree: dict[int, list[Item]] | None = None

    def get_queryset(self) -> QuerySet[Dataset]:
        return super().get_queryset().filter(project__in=actor_of(self.request).projects(Act.SEE).values("pk"))

    def paginate_queryset(self, queryset: Any) -> Any:
        page = super().paginate_queryset(queryset)
        self.tree = descendants(page or [])
        return page

    def get_serializer_context(self) -> dict[str, Any]:
        return {**super().get_serializer_context(), "tree": self.tree}

    @extend_schema(request=None, responses={200: CancelAnswerSerializer, **problems(401, 403, 404, 409)})
    @action(detail=True, methods=["post"])
    def cancel(self, request: Request, **_: Any) -> Response:
        """Ask for the end of the dataset's run; its client learns of it with the next heartbeat. 409: there is none."""
        dataset = self.get_object()
        with transaction.atomic():
            claim = datasets.cancel(signed_in(request), dataset)
            audit.note(actor_of(request), "cancel", dataset.slug, dataset.project)
        return Response(CancelAnswerSerializer(claim).data)

    @extend_schema(request=ResetSerializer, responses={200: DatasetSerializer, **problems(400, 401, 403, 404)})
    @action(detail=True, methods=["post"])
    def reset(self, request: Request, **_: Any) -> Response:
        """Make the dataset unprocessed again. Its history stays; a run that is going on has lost it."""
        sent = ResetSerializer(data=request.data)
        sent.is_valid(raise_exception=True)
        dataset = self.get_object()
        with transaction.atomic():
            audit.note(actor_of(request), "reset", dataset.slug, dataset.project, after=sent.validated_data)
            datasets.reset(dataset.pk, **sent.validated_data)
        return Response(self.get_serializer(self.get_object()).data)

    @extend_schema(
        request=RetryDatasetSerializer, responses={200: RetriedSerializer, **problems(400, 401, 403, 404, 409)}
    )
    @action(detail=True, methods=["post"])
    def retry(self, request: Request, **_: Any) -> Response:
        """Make a completed or failed dataset unprocessed again. 409: it is being processed; cancel its run first."""
        sent = RetryDatasetSerializer(data=request.data)
        sent.is_valid(raise_exception=True)
        dry_run, take_files = sent.validated_data["dry_run"], sent.validated_data["take_files"]
        dataset = self.get_object()
        with transaction.atomic():
            done = datasets.retry(dataset.pk, take_files=take_files, dry_run=dry_run)
            if done.count and not dry_run:
                audit.note(actor_of(request), "retry", dataset.slug, dataset.project, after={"take_files": take_files})
        return _retried(done, dry_run)


class ItemViews(NodeViews):
    queryset = Item.objects.select_related("parent").prefetch_related("attributes").order_by("pk")
    serializer_class = ItemSerializer
    lists = ITEMS

    def get_queryset(self) -> QuerySet[Item]:
        return actor_of(self.request).items(super().get_queryset(), Act.SEE)

    def perform_update(self, serializer: Any) -> None:
        self._refuse_project(serializer.instance)
        super().perform_update(serializer)

    def perform_destroy(self, instance: Item) -> None:
        self._refuse_project(instance)
        super().perform_destroy(instance)

    def _refuse_project(self, item: Item) -> None:
        """A project is an item too: to change or delete it as one needs what it needs as a project."""
        if item.parent_id is None:
            actor_of(self.request).require(Act.MANAGE, project_of(item))
