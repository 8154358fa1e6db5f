"""Claims on the wire: claim, heartbeat, release, cancel, and the read-only question what comes next."""

from __future__ import annotations

import functools
import hashlib
from typing import Any, ClassVar

from drf_spectacular.utils import OpenApiResponse, extend_schema
from rest_framework import serializers, status
from rest_framework.request import Request
from rest_framework.response import Response

from crunch_tasks import contract
from crunch_tasks.errors import Refused
from crunch_tasks.needs import MOST_BYTES, MOST_OF_A_KIND, label
from server.api.base import API, problems, signed_in
from server.api.fields import CappedTextField, LogTailField, OptionalTextField, ProgressField, WebAddressField
from server.api.nodes import DatasetSerializer, NodeSerializer, ProjectSerializer
from server.kinds import FiniteFloatField
from server.models import Claim, Dataset, Installation, Project
from server.models.items import SLUG_LENGTH
from server.permissions import Act, actor_of, project_of
from server.services import audit, claims, queue


class CapabilitiesSerializer(serializers.Serializer[Any]):
    """What the client's machine has. What is left out it has not."""

    cores = serializers.IntegerField(default=0, min_value=0, max_value=MOST_OF_A_KIND)
    memory = serializers.IntegerField(default=0, min_value=0, max_value=MOST_BYTES, help_text="In bytes.")
    gpus = serializers.IntegerField(default=0, min_value=0, max_value=MOST_OF_A_KIND)
    labels = serializers.ListField(child=serializers.CharField(max_length=64), default=list, max_length=100)

    def validate_labels(self, labels: list[str]) -> list[str]:
        try:
            return [label(word) for word in labels]
        except ValueError as error:
            raise serializers.ValidationError(str(error)) from error


class ClaimRequestSerializer(serializers.Serializer[Any]):
    project = OptionalTextField(max_length=SLUG_LENGTH)
    dataset = OptionalTextField(max_length=SLUG_LENGTH)
    request_id = serializers.CharField(max_length=100)
    client = CappedTextField(cap=255)
    flow_run_id = CappedTextField(cap=64)
    flow_run_url = WebAddressField()
    ahead = serializers.BooleanField(
        default=False, help_text="It has enough to compute for now: none that an idle client could start."
    )
    capabilities = CapabilitiesSerializer(
        required=False, allow_null=True, default=None, help_text="Without it, only what asks for nothing is given."
    )
    seconds = FiniteFloatField(
        required=False,
        allow_null=True,
        default=None,
        min_value=0,
        help_text="How long the client may still work, if there is an end.",
    )
    only_waiting = serializers.BooleanField(
        default=False, help_text="The dataset that is named only if it is unprocessed, or its lease has expired."
    )


class ClaimAnswerSerializer(serializers.Serializer[Any]):
    claim = serializers.IntegerField()
    fence = serializers.IntegerField()
    ttl_s = serializers.FloatField(help_text="How long the lease lasts from when the request was sent.")
    heartbeat_s = serializers.FloatField(help_text="How often to renew it.")
    site = serializers.UUIDField()
    dataset = DatasetSerializer()
    project = ProjectSerializer()
    workflow = serializers.CharField(help_text="The project's workflow, byte for byte.")
    workflow_type = serializers.ChoiceField([word.value for word in contract.WorkflowType])
    workflow_sha256 = serializers.CharField()


class FenceSerializer(serializers.Serializer[Any]):
    fence = serializers.IntegerField(min_value=0, max_value=2**63 - 1)


class HeartbeatSerializer(FenceSerializer):
    progress = ProgressField(required=False, allow_null=True, default=None)
    log_tail = LogTailField(
        required=False, allow_null=True, default=None, help_text="The last lines of the workflow's output, if news."
    )


class ReleaseSerializer(FenceSerializer):
    reason = CappedTextField(cap=1023)


class HeartbeatAnswerSerializer(serializers.Serializer[Any]):
    ttl_s = serializers.FloatField()
    cancel = serializers.BooleanField(help_text="A person wants the run to end.")
    cancelled_by = serializers.CharField(allow_blank=True, help_text="That person's user name.")


class ReleaseAnswerSerializer(serializers.Serializer[Any]):
    released = serializers.BooleanField()


class CancelAnswerSerializer(serializers.ModelSerializer[Claim]):
    claim = serializers.IntegerField(source="pk")
    cancelled_by = serializers.SlugRelatedField[Any](slug_field="username", read_only=True)
    end_reason = serializers.CharField(read_only=True, help_text="Empty while the claim is current.")

    class Meta:
        model = Claim
        fields = ["claim", "cancelled_by", "cancelled_at", "ended", "end_reason"]


class NextSerializer(serializers.Serializer[Any]):
    project = serializers.CharField(allow_blank=True)
    dataset = serializers.CharField(allow_blank=True)


def answer(claim: Claim) -> contract.Claim:
    """What the client of the claim is told."""
    dataset = claim.dataset
    project = dataset.project
    ttl_s = float(project.lease_seconds)
    return contract.Claim(
        claim=claim.pk,
        fence=claim.fence,
        ttl_s=ttl_s,
        heartbeat_s=contract.heartbeat_seconds(ttl_s),
        site=Installation.site_id(),
        dataset=_body(DatasetSerializer, dataset),
        project=_body(ProjectSerializer, project),
        workflow=project.workflow,
        workflow_type=contract.WorkflowType(project.workflow_type),
        workflow_sha256=hashlib.sha256(project.workflow.encode()).hexdigest(),
    )


def _body(kind: type[NodeSerializer], node: Dataset | Project) -> dict[str, Any]:
    return dict(_serializer(kind).to_representation(node))


@functools.cache
def _serializer(kind: type[NodeSerializer]) -> NodeSerializer:
    """One for all claims: to make its fields anew takes longer than to fill them in."""
    return kind()


class ClaimsView(API):
    acts: ClassVar = {"post": Act.RUN}

    @extend_schema(
        request=ClaimRequestSerializer,
        responses={
            200: OpenApiResponse(ClaimAnswerSerializer, "The same request_id again: the same claim."),
            201: ClaimAnswerSerializer,
            204: OpenApiResponse(description="Nothing can be claimed."),
            **problems(400, 401, 403, 404, 409),
        },
    )
    def post(self, request: Request) -> Response:
        """Claim the next dataset, of one project or of any, or one that is named. 409 `unfit`: datasets wait, but the
        client told its capabilities, or its time, and none fits. 409 `decided`: it was to wait, and does not.
        """
        asked = ClaimRequestSerializer(data=request.data)
        asked.is_valid(raise_exception=True)
        wanted = contract.ClaimRequest(**asked.validated_data)
        try:
            found = claims.claim(signed_in(request), wanted, actor_of(request).projects(Act.RUN))
        except Refused as refusal:
            if refusal.code == "not_found":
                self._check_named(Project, wanted.project)
                self._check_named(Dataset, wanted.dataset)
            raise
        if found is None:
            return Response(status=status.HTTP_204_NO_CONTENT)
        claim, new = found
        return Response(answer(claim).to_wire(), status=status.HTTP_201_CREATED if new else status.HTTP_200_OK)

    def _check_named(self, model: type[Project | Dataset], slug: str) -> None:
        """Whoever sees what they named but may not run it is told so."""
        named = model.objects.filter(slug=slug).first() if slug else None
        if named is not None and actor_of(self.request).may(Act.SEE, project_of(named)):
            self.check_object_permissions(self.request, named)


class ClaimView(API):
    """What is done with one claim."""

    def check_claim(self, pk: int) -> Claim:
        """The claim. Raises Refused (404) when there is none, and what the act's refusal raises."""
        found = claims.find(pk)
        self.check_object_permissions(self.request, found)
        return found


class HeartbeatView(ClaimView):
    acts: ClassVar = {"post": Act.RUN}

    @extend_schema(
        request=HeartbeatSerializer,
        responses={200: HeartbeatAnswerSerializer, **problems(400, 401, 403, 404, 409)},
    )
    def post(self, request: Request, pk: int) -> Response:
        """Renew the lease, also an expired one that nobody took, and tell how far it is. 409: the lease is lost."""
        held = self.check_claim(pk)
        sent = HeartbeatSerializer(data=request.data)
        sent.is_valid(raise_exception=True)
        renewal = claims.heartbeat(signed_in(request), held, **sent.validated_data)
        return Response(HeartbeatAnswerSerializer(renewal).data)


class ReleaseView(ClaimView):
    acts: ClassVar = {"post": Act.RUN}

    @extend_schema(
        request=ReleaseSerializer,
        responses={200: ReleaseAnswerSerializer, **problems(400, 401, 403, 404, 409)},
    )
    def post(self, request: Request, pk: int) -> Response:
        """Give the dataset back unprocessed, no attempt charged."""
        self.check_claim(pk)
        sent = ReleaseSerializer(data=request.data)
        sent.is_valid(raise_exception=True)
        claims.release(signed_in(request), pk, **sent.validated_data)
        return Response({"released": True})


class CancelView(ClaimView):
    acts: ClassVar = {"post": Act.STEER}

    @extend_schema(request=None, responses={200: CancelAnswerSerializer, **problems(401, 403, 404, 409)})
    def post(self, request: Request, pk: int) -> Response:
        """Ask for the run's end; its client learns of it with the next heartbeat."""
        self.check_claim(pk)
        cancelled = claims.cancel(signed_in(request), pk)
        audit.note(actor_of(request), "cancel", cancelled.dataset.slug, cancelled.dataset.project)
        return Response(CancelAnswerSerializer(cancelled).data)


class NextView(API):
    acts: ClassVar = {"get": Act.SEE}

    @extend_schema(responses={200: NextSerializer, **problems(401, 403, 404)})
    def get(self, request: Request, slug: str = "") -> Response:
        """The dataset that the next claim would take; both are "" when there is none."""
        projects = actor_of(request).projects(Act.RUN)
        if slug:
            # PostgreSQL refuses to look for a NUL.
            seen = actor_of(request).projects(Act.SEE)
            projects = seen.none() if "\x00" in slug else seen.filter(slug=slug)
            if not projects.exists():
                raise Refused(f"There is no project {slug!r}.", 404, "not_found")
        dataset = queue.peek(projects)
        found = (
            {"project": dataset.project.slug, "dataset": dataset.slug} if dataset else {"project": "", "dataset": ""}
        )
        return Response(found)
