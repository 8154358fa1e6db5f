"""Projects, datasets and items as they are on the wire: their fields, and how bodies are read."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from django.db import DatabaseError
from drf_spectacular.utils import extend_schema_field
from rest_framework import exceptions, serializers

from server.api.fields import ItemSlugField, NeedsField, OnlyKnown, RawTextField
from server.kinds import KINDS, ExplicitBooleanField
from server.models import Dataset, Item, Project
from server.models.datasets import BASE_PATH_LENGTH
from server.models.items import descendants
from server.services import catalogue, edits


class AttributeValueShape(serializers.Serializer[Any]):
    """`{kind, key, value}`, or `{kind, key, latitude, longitude}`."""

    kind = serializers.ChoiceField(list(KINDS))
    key = serializers.CharField()
    value = serializers.JSONField(required=False)
    latitude = serializers.CharField(required=False)
    longitude = serializers.CharField(required=False)


@extend_schema_field(AttributeValueShape(many=True))
class AttributeValuesField(serializers.Field[Any, Any, Any, Any]):
    """All attributes of an item."""

    def __init__(self) -> None:
        super().__init__(read_only=True)

    def to_representation(self, value: Any) -> list[dict[str, Any]]:
        return [
            {"kind": attribute.kind, "key": attribute.key, **_on_the_wire(attribute.values)}
            for attribute in value.all()
        ]


def _on_the_wire(values: dict[str, Any]) -> dict[str, Any]:
    """Degrees are text, as they always were: a float would not keep their last places."""
    return {part: str(value) if isinstance(value, Decimal) else value for part, value in values.items()}


class NodeSerializer(OnlyKnown, serializers.ModelSerializer[Any]):
    """What the tree's nodes have in common. A node stays where it was made: its slug says where that is."""

    details = RawTextField()

    def update(self, instance: Any, validated_data: dict[str, Any]) -> Any:
        if validated_data.pop("parent", instance.parent) != instance.parent:
            raise serializers.ValidationError({"parent": "It cannot be moved: its address names its parent."})
        try:
            edits.save_changes(instance, self.context["request"].user, validated_data)
        except DatabaseError:
            if not type(instance).objects.filter(pk=instance.pk).exists():
                raise exceptions.NotFound from None
            raise
        return instance


class ProjectSerializer(NodeSerializer):
    workflow = RawTextField()
    paused = ExplicitBooleanField(required=False)
    needs = NeedsField(help_text="What its datasets ask of a machine.")

    class Meta:
        model = Project
        fields = [
            *("id", "name", "slug", "description", "details", "workflow", "workflow_type"),
            *("lease_seconds", "max_attempts", "workflow_timeout_s", "needs", "visibility", "paused"),
        ]

    def create(self, validated_data: dict[str, Any]) -> Project:
        return catalogue.create_project(self.context["request"].user, **validated_data)


@extend_schema_field(
    {"type": "string", "nullable": True, "description": "The slug of what it is below; null is read of projects only."}
)
class AnyParentField(ItemSlugField):
    """The slug of an item of any kind; those at the top are projects, which are made as such."""


class ItemSerializer(NodeSerializer):
    parent = AnyParentField(queryset=Item.objects.all())  # type: ignore[assignment]
    attributes = AttributeValuesField()

    class Meta:
        model = Item
        fields = ["id", "name", "slug", "parent", "description", "details", "attributes"]

    def create(self, validated_data: dict[str, Any]) -> Item:
        return catalogue.create_item(**validated_data)


class BranchSerializer(ItemSerializer):
    """An item with all items below it."""

    items = serializers.SerializerMethodField()

    class Meta(ItemSerializer.Meta):
        fields = [*ItemSerializer.Meta.fields, "items"]

    @extend_schema_field({"type": "array", "items": {"$ref": "#/components/schemas/Branch"}})
    def get_items(self, item: Item) -> list[dict[str, Any]]:
        found: list[Item] = self.context["tree"].get(item.pk, [])
        return [dict(BranchSerializer(child, context=self.context).data) for child in found]


class DatasetSerializer(NodeSerializer):
    parent = ItemSlugField(queryset=Project.objects.all())  # type: ignore[assignment]
    attributes = AttributeValuesField()
    items = serializers.SerializerMethodField()
    base_file_path = serializers.CharField(
        required=False, allow_blank=True, max_length=BASE_PATH_LENGTH, trim_whitespace=False
    )
    locked = ExplicitBooleanField(required=False)
    needs = NeedsField(help_text="What it asks of a machine, in place of what its project asks; `none` asks nothing.")

    class Meta:
        model = Dataset
        fields = [
            *("id", "name", "slug", "parent", "description", "details", "attributes", "items", "base_file_path"),
            *("state", "locked", "attempt", "priority", "needs", "manifest_sha256", "manifest_fence", "updated"),
        ]
        read_only_fields = ["state", "attempt", "manifest_sha256", "manifest_fence", "updated"]

    @extend_schema_field(BranchSerializer(many=True))
    def get_items(self, dataset: Dataset) -> list[dict[str, Any]]:
        tree = self.context.get("tree")
        tree = descendants([dataset]) if tree is None else tree
        return [dict(BranchSerializer(child, context={"tree": tree}).data) for child in tree.get(dataset.pk, [])]

    def create(self, validated_data: dict[str, Any]) -> Dataset:
        return catalogue.create_dataset(validated_data.pop("parent"), **validated_data)

    def update(self, instance: Dataset, validated_data: dict[str, Any]) -> Dataset:
        if parent := validated_data.pop("parent", None):
            validated_data["parent"] = parent.item_ptr
        updated: Dataset = super().update(instance, validated_data)
        return updated
