"""One serializer and one set of views for each kind of attribute, made from the registry."""

from __future__ import annotations

from typing import Any

from rest_framework import serializers, viewsets

from server.api.base import API
from server.api.fields import ItemSlugField
from server.kinds import KINDS
from server.models import Attribute, Item


class AttributeSerializer(serializers.ModelSerializer[Attribute]):
    kind = ""
    item = ItemSlugField(queryset=Item.objects.all())

    class Meta:
        model = Attribute
        fields = ["id", "item", "key"]

    def create(self, validated_data: dict[str, Any]) -> Attribute:
        return Attribute.objects.create(kind=self.kind, **validated_data)


def _serializer(name: str) -> type[AttributeSerializer]:
    parts = {part: KINDS[name].field(part) for part in KINDS[name].columns}
    meta = type("Meta", (AttributeSerializer.Meta,), {"fields": [*AttributeSerializer.Meta.fields, *parts]})
    return type(f"{_camel(name)}AttributeSerializer", (AttributeSerializer,), {"kind": name, "Meta": meta, **parts})


def _views(name: str) -> type[viewsets.ModelViewSet[Attribute]]:
    queryset = Attribute.objects.filter(kind=name).select_related("item").order_by("pk")
    values = {"queryset": queryset, "serializer_class": _serializer(name), "lookup_value_regex": "[0-9]{1,18}"}
    return type(f"{_camel(name)}AttributeViews", (API, viewsets.ModelViewSet), values)


def _camel(name: str) -> str:
    return name.title().replace("-", "")


VIEWS = {name: _views(name) for name in KINDS}
