"""One serializer and one set of views for each kind of attribute, made from the registry."""

from __future__ import annotations

from typing import Any, ClassVar

from django.db.models import QuerySet
from rest_framework import serializers, viewsets

from server.api import tags
from server.api.base import API
from server.api.fields import ItemSlugField, OnlyKnown
from server.api.filters import ATTRIBUTES
from server.api.noted import CATALOGUE_ACTS, check_item, noted
from server.kinds import KINDS
from server.models import Attribute, Item
from server.permissions import Act, actor_of
from server.services import edits


class AttributeSerializer(OnlyKnown, serializers.ModelSerializer[Attribute]):
    kind = ""
    item = ItemSlugField(queryset=Item.objects.all())

    class Meta:
        model = Attribute
        fields = ["id", "item", "key"]

    def create(self, validated_data: dict[str, Any]) -> Attribute:
        return Attribute.objects.create(kind=self.kind, **validated_data)


@tags.documented
class AttributeViews(tags.TaggedViews, API, viewsets.ModelViewSet[Attribute]):
    """The attributes of one kind, of the items that the caller sees."""

    acts: ClassVar = CATALOGUE_ACTS

    def get_queryset(self) -> QuerySet[Attribute]:
        return actor_of(self.request).items(super().get_queryset(), Act.SEE, "item__")

    def perform_create(self, serializer: Any) -> None:
        check_item(self, serializer.validated_data["item"])
        noted(self, serializer)

    def perform_update(self, serializer: Any) -> None:
        if "item" in serializer.validated_data:
            check_item(self, serializer.validated_data["item"])
        noted(self, serializer)

    def perform_destroy(self, instance: Attribute) -> None:
        edits.delete(actor_of(self.request), instance)


def _serializer(name: str) -> type[AttributeSerializer]:
    parts = {part: KINDS[name].field(part) for part in KINDS[name].columns}
    meta = type("Meta", (AttributeSerializer.Meta,), {"fields": [*AttributeSerializer.Meta.fields, *parts]})
    return type(f"{_camel(name)}AttributeSerializer", (AttributeSerializer,), {"kind": name, "Meta": meta, **parts})


def _views(name: str) -> type[viewsets.ModelViewSet[Attribute]]:
    queryset = Attribute.objects.filter(kind=name).select_related("item").order_by("pk")
    values = {
        **{"queryset": queryset, "lists": ATTRIBUTES},
        **{"serializer_class": _serializer(name), "lookup_value_regex": "[0-9]{1,18}"},
    }
    return type(f"{_camel(name)}AttributeViews", (AttributeViews,), values)


def _camel(name: str) -> str:
    return name.title().replace("-", "")


VIEWS = {name: _views(name) for name in KINDS}
