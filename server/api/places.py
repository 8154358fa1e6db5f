"""Where a project's datasets are, on the wire."""

from __future__ import annotations

from typing import Any, ClassVar

from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from crunch_tasks.contract import DatasetState
from server.api.base import problems
from server.api.parts import ProjectPart
from server.permissions import Act
from server.services import places


class PlaceSerializer(serializers.Serializer[Any]):
    dataset = serializers.CharField(help_text="Its slug.")
    state = serializers.ChoiceField([word.value for word in DatasetState])
    key = serializers.CharField(help_text="That of the attribute.")
    latitude = serializers.CharField()
    longitude = serializers.CharField()


class PlacesSerializer(serializers.Serializer[Any]):
    cut = serializers.BooleanField(help_text=f"Whether there are more: no more than {places.POINTS} are told.")
    places = PlaceSerializer(many=True)


class PlacesView(ProjectPart):
    acts: ClassVar = {"get": Act.SEE}

    @extend_schema(responses={200: PlacesSerializer, **problems(401, 403, 404)})
    def get(self, _request: Request, slug: str) -> Response:  # noqa: ARG002
        """The places of the project's datasets, by their lat-long attributes: what its map shows."""
        found, cut = places.of(self.project())
        return Response(PlacesSerializer({"cut": cut, "places": found}).data)
