"""Where a project's datasets are, on the wire."""

from __future__ import annotations

from typing import Any, ClassVar

from django.db.models import QuerySet
from rest_framework import generics, serializers

from crunch_tasks.contract import DatasetState
from server.api.parts import ProjectPart
from server.models import Attribute
from server.permissions import Act
from server.services import places


class PlaceSerializer(serializers.Serializer[Any]):
    dataset = serializers.CharField(source="item.slug", help_text="Its slug.")
    state = serializers.ChoiceField([word.value for word in DatasetState], source="item.as_dataset.state")
    key = serializers.CharField(help_text="That of the attribute.")
    latitude = serializers.CharField()
    longitude = serializers.CharField()


class PlacesView(ProjectPart, generics.ListAPIView[Attribute]):
    """The places of the project's datasets, by their lat-long attributes: what its map shows, dataset by dataset."""

    acts: ClassVar = {"get": Act.SEE}
    serializer_class = PlaceSerializer
    queryset = Attribute.objects.none()

    def get_queryset(self) -> QuerySet[Attribute]:
        told = ("item__slug", "item__as_dataset__state", "place_in", "key", "latitude", "longitude")
        rows = self.project().places.select_related("item__as_dataset").only(*told)
        return rows.order_by(*places.COLUMNS)
