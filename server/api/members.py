"""People's rights on the wire: a project's members, its audit trail and workflow versions, and one's own tokens."""

from __future__ import annotations

from typing import Any, ClassVar

from django.db.models import QuerySet
from django.shortcuts import get_object_or_404
from drf_spectacular.utils import OpenApiResponse, extend_schema
from rest_framework import generics, serializers, status
from rest_framework.request import Request
from rest_framework.response import Response

from server.api.base import API, problems
from server.api.fields import ItemSlugField, OnlyKnown
from server.api.filters import Unnarrowed
from server.api.parts import ProjectPart
from server.kinds import ExplicitBooleanField
from server.models import AccessToken, Change, Membership, Project, Role, WorkflowVersion
from server.permissions import Act, actor_of
from server.services import members, tokens

Person = serializers.SlugRelatedField[Any]


class MembershipSerializer(OnlyKnown, serializers.ModelSerializer[Membership]):
    user = Person(slug_field="username", read_only=True)
    edits_workflow = ExplicitBooleanField(required=False)

    class Meta:
        model = Membership
        fields = ["user", "role", "edits_workflow"]
        # A PUT tells all of it: without a role it would make an editor a viewer.
        extra_kwargs: ClassVar = {"role": {"required": True}}


class ChangeSerializer(serializers.ModelSerializer[Change]):
    user = Person(slug_field="username", read_only=True)

    class Meta:
        model = Change
        fields = ["id", "created", "user", "token_name", "act", "target", "before", "after"]


class WorkflowVersionSerializer(serializers.ModelSerializer[WorkflowVersion]):
    author = Person(slug_field="username", read_only=True, allow_null=True)

    class Meta:
        model = WorkflowVersion
        fields = ["id", "created", "author", "type", "sha256", "text"]

    def to_representation(self, instance: WorkflowVersion) -> dict[str, Any]:
        found: dict[str, Any] = super().to_representation(instance)
        sees_author = actor_of(self.context["request"]).may(Act.SEE_MACHINES, instance.project)
        return found if sees_author else found | {"author": None}


class MembersView(ProjectPart, generics.ListAPIView[Membership]):
    """A project's members."""

    acts: ClassVar = {"get": Act.SEE_MACHINES}
    serializer_class = MembershipSerializer
    queryset = Membership.objects.none()

    def get_queryset(self) -> QuerySet[Membership]:
        return self.project().memberships.select_related("user").order_by("pk")


class MemberView(ProjectPart):
    acts: ClassVar = {"put": Act.MANAGE, "delete": Act.MANAGE}

    @extend_schema(
        request=MembershipSerializer,
        responses={200: MembershipSerializer, **problems(400, 401, 403, 404, 409)},
    )
    def put(self, request: Request, slug: str, username: str) -> Response:  # noqa: ARG002
        """Make the user a member, or change what they may do. 409: they are the only manager."""
        project, user = self.project(), members.person(username)
        sent = MembershipSerializer(data=request.data)
        sent.is_valid(raise_exception=True)
        role = Role(sent.validated_data["role"])
        rights = {"edits_workflow": sent.validated_data.get("edits_workflow", False)}
        made = members.set_member(actor_of(request), project, user, role, **rights)
        return Response(MembershipSerializer(made).data)

    @extend_schema(responses={204: OpenApiResponse(description="No member any more."), **problems(401, 403, 404, 409)})
    def delete(self, request: Request, slug: str, username: str) -> Response:  # noqa: ARG002
        """End the membership. 409: they are the only manager."""
        project, user = self.project(), members.person(username)
        members.remove_member(actor_of(request), project, user)
        return Response(status=status.HTTP_204_NO_CONTENT)


class ChangesView(ProjectPart, generics.ListAPIView[Change]):
    """Who changed what in the project, the newest first."""

    acts: ClassVar = {"get": Act.SEE_MACHINES}
    serializer_class = ChangeSerializer
    queryset = Change.objects.none()

    def get_queryset(self) -> QuerySet[Change]:
        return self.project().changes.select_related("user").order_by("-pk")


class WorkflowVersionsView(ProjectPart, generics.ListAPIView[WorkflowVersion]):
    """Every version of the project's workflow, the newest first; its author is told to the project's members alone."""

    acts: ClassVar = {"get": Act.SEE}
    serializer_class = WorkflowVersionSerializer
    queryset = WorkflowVersion.objects.none()

    def get_queryset(self) -> QuerySet[WorkflowVersion]:
        return self.project().workflow_versions.select_related("author").order_by("-pk")


class TokenSerializer(OnlyKnown, serializers.ModelSerializer[AccessToken]):
    project = ItemSlugField(queryset=Project.objects.all(), required=False, allow_null=True)

    class Meta:
        model = AccessToken
        fields = ["id", "name", "project", "role", "expires", "created", "last_used"]
        read_only_fields = ["created", "last_used"]


class NewTokenSerializer(TokenSerializer):
    token = serializers.CharField(read_only=True, help_text="The key. It is shown this once.")

    class Meta(TokenSerializer.Meta):
        fields = [*TokenSerializer.Meta.fields, "token"]


class TokensView(API, generics.ListAPIView[AccessToken]):
    """One's own access tokens."""

    acts: ClassVar = {"get": Act.OWN_TOKENS, "post": Act.OWN_TOKENS}
    filter_backends: Any = [Unnarrowed]
    serializer_class = TokenSerializer
    queryset = AccessToken.objects.none()

    def get_queryset(self) -> QuerySet[AccessToken]:
        return AccessToken.objects.filter(user=self.request.user.pk).select_related("project").order_by("pk")

    @extend_schema(request=TokenSerializer, responses={201: NewTokenSerializer, **problems(400, 401, 403, 404, 409)})
    def post(self, request: Request) -> Response:
        """Make a token: of a project or of all, with a role at most, until it expires. Its key is in the answer."""
        sent = TokenSerializer(data=request.data, context={"request": request})
        sent.is_valid(raise_exception=True)
        asked = dict(sent.validated_data)
        role = Role(asked.pop("role", Role.RUNNER))
        made, key = tokens.create(actor_of(request), asked.pop("name"), role=role, **asked)
        return Response({**TokenSerializer(made).data, "token": key}, status=status.HTTP_201_CREATED)


class TokenView(API):
    acts: ClassVar = {"delete": Act.OWN_TOKENS}

    @extend_schema(responses={204: OpenApiResponse(description="It is ended."), **problems(401, 403, 404)})
    def delete(self, request: Request, pk: int) -> Response:
        """End one's own token: clients that sign in with it are refused from now on."""
        tokens.end(actor_of(request), get_object_or_404(AccessToken, pk=pk, user=request.user.pk))
        return Response(status=status.HTTP_204_NO_CONTENT)
