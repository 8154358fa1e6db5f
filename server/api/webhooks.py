"""Webhooks on the wire: a project's, what was sent to them and answered, and sending it again. For managers."""

from __future__ import annotations

from typing import Any, ClassVar

from django.db.models import QuerySet
from django.shortcuts import get_object_or_404
from drf_spectacular.utils import OpenApiResponse, extend_schema
from rest_framework import generics, serializers, status
from rest_framework.request import Request
from rest_framework.response import Response

from server.api.base import problems
from server.api.fields import OnlyKnown
from server.api.members import Person
from server.api.parts import ProjectPart
from server.kinds import ExplicitBooleanField
from server.models import Webhook, WebhookDelivery, WebhookEvent
from server.permissions import Act, actor_of
from server.services import webhooks


class WebhookSerializer(OnlyKnown, serializers.ModelSerializer[Webhook]):
    events = serializers.ListField(child=serializers.ChoiceField(WebhookEvent.choices), min_length=1, max_length=10)
    created_by = Person(slug_field="username", read_only=True)

    class Meta:
        model = Webhook
        fields = ["id", "url", "events", "active", "created_by", "created"]
        read_only_fields = ["active"]


class NewWebhookSerializer(WebhookSerializer):
    secret = serializers.CharField(read_only=True, help_text="What deliveries are signed with. It is shown this once.")

    class Meta(WebhookSerializer.Meta):
        fields = [*WebhookSerializer.Meta.fields, "secret"]


class ActiveSerializer(serializers.Serializer[Any]):
    active = ExplicitBooleanField()


class DeliverySerializer(serializers.ModelSerializer[WebhookDelivery]):
    given_up = serializers.BooleanField(read_only=True)

    class Meta:
        model = WebhookDelivery
        fields = [
            "id",
            "webhook",
            "event",
            "dataset",
            "body",
            "attempts",
            "next_try",
            "answer",
            "problem",
            "created",
            "delivered_at",
            "given_up",
        ]


class WebhooksView(ProjectPart, generics.ListAPIView[Webhook]):
    """A project's webhooks."""

    acts: ClassVar = {"get": Act.MANAGE, "post": Act.MANAGE}
    serializer_class = WebhookSerializer
    queryset = Webhook.objects.none()

    def get_queryset(self) -> QuerySet[Webhook]:
        return self.project().webhooks.select_related("created_by").order_by("pk")

    @extend_schema(
        request=WebhookSerializer, responses={201: NewWebhookSerializer, **problems(400, 401, 403, 404, 409, 413)}
    )
    def post(self, request: Request, slug: str) -> Response:  # noqa: ARG002
        """Make a webhook. Its secret is in the answer, and nowhere else after that."""
        project = self.project()
        sent = WebhookSerializer(data=request.data)
        sent.is_valid(raise_exception=True)
        made = webhooks.create(actor_of(request), project, **sent.validated_data)
        return Response(NewWebhookSerializer(made).data, status=status.HTTP_201_CREATED)


class WebhookView(ProjectPart):
    acts: ClassVar = {"patch": Act.MANAGE, "delete": Act.MANAGE}

    @extend_schema(request=ActiveSerializer, responses={200: WebhookSerializer, **problems(400, 401, 403, 404, 413)})
    def patch(self, request: Request, slug: str, pk: int) -> Response:  # noqa: ARG002
        """Stop or start it. While it is stopped nothing is noted for it, and what is due waits."""
        project = self.project()
        sent = ActiveSerializer(data=request.data)
        sent.is_valid(raise_exception=True)
        found = get_object_or_404(project.webhooks, pk=pk)
        webhooks.set_active(actor_of(request), found, sent.validated_data["active"])
        return Response(WebhookSerializer(found).data)

    @extend_schema(responses={204: OpenApiResponse(description="It is gone."), **problems(401, 403, 404)})
    def delete(self, request: Request, slug: str, pk: int) -> Response:  # noqa: ARG002
        """Remove it, and what was to be sent to it."""
        webhooks.remove(actor_of(request), get_object_or_404(self.project().webhooks, pk=pk))
        return Response(status=status.HTTP_204_NO_CONTENT)


class DeliveriesView(ProjectPart, generics.ListAPIView[WebhookDelivery]):
    """What was and is to be sent to the project's webhooks, the newest first."""

    acts: ClassVar = {"get": Act.MANAGE}
    serializer_class = DeliverySerializer
    queryset = WebhookDelivery.objects.none()

    def get_queryset(self) -> QuerySet[WebhookDelivery]:
        return WebhookDelivery.objects.filter(webhook__project=self.project()).order_by("-pk")


class AgainView(ProjectPart):
    acts: ClassVar = {"post": Act.MANAGE}

    @extend_schema(request=None, responses={200: DeliverySerializer, **problems(400, 401, 403, 404, 409)})
    def post(self, request: Request, slug: str, pk: int) -> Response:  # noqa: ARG002
        """Send it once more, byte for byte. 409: the webhook is stopped."""
        project = self.project()
        found = get_object_or_404(WebhookDelivery, pk=pk, webhook__project=project)
        webhooks.send_again(actor_of(request), found)
        found.refresh_from_db()
        return Response(DeliverySerializer(found).data)
