"""Attributes: typed metadata of items, in one table. The kinds and the columns they use are in `server.kinds`."""

from __future__ import annotations

from typing import Any

from django.core.exceptions import ValidationError
from django.db import models
from rest_framework import exceptions

from crunch_tasks.contract import ATTRIBUTE_KINDS
from server import kinds
from server.models.items import NAME_LENGTH, Item

KEY_LENGTH = 255


class Attribute(models.Model):
    item = models.ForeignKey(Item, models.CASCADE, related_name="attributes")
    kind = models.CharField(max_length=16, choices=[(kind.name, kind.name) for kind in ATTRIBUTE_KINDS])
    key = models.CharField(max_length=KEY_LENGTH)

    text = models.CharField(max_length=NAME_LENGTH, null=True, blank=True)
    number = models.FloatField(null=True, blank=True)
    integer = models.BigIntegerField(null=True, blank=True)
    boolean = models.BooleanField(null=True, blank=True)
    date = models.DateField(null=True, blank=True)
    moment = models.DateTimeField(null=True, blank=True)
    latitude = models.DecimalField(max_digits=12, decimal_places=9, null=True, blank=True)
    longitude = models.DecimalField(max_digits=12, decimal_places=9, null=True, blank=True)
    place_in = models.ForeignKey(
        "server.Project",
        models.CASCADE,
        null=True,
        editable=False,
        db_index=False,
        related_name="places",
        help_text="The project on whose map it is, if it is the place of a dataset.",
    )

    class Meta:
        ordering = ("id",)
        indexes = [
            models.Index(fields=["kind", "id"], name="server_attribute_kind"),
            # What a map shows, in its order, however many places other projects have.
            models.Index(
                fields=["place_in", "item", "id"],
                name="server_attribute_place",
                condition=models.Q(place_in__isnull=False),
            ),
        ]

    def __str__(self) -> str:
        return f"{self.key}: {self.display}"

    def save(self, *args: Any, **kwargs: Any) -> None:
        self.put_on_map()
        super().save(*args, **kwargs)

    def put_on_map(self) -> None:
        """Set on whose map it is; what makes many at once has to ask for it."""
        is_place = self.kind == "lat-long" and None not in self.values.values()
        self.place_in_id = self.item.parent_id if is_place and not self.item.plain else None

    @property
    def values(self) -> dict[str, Any]:
        """The value as on the wire: `{"value": ...}`, or `{"latitude": ..., "longitude": ...}`."""
        return {field: getattr(self, column) for field, column in kinds.KINDS[self.kind].columns.items()}

    @property
    def display(self) -> str:
        """The value for people's eyes."""
        return ", ".join(str(value) for value in self.values.values())

    def clean(self) -> None:
        """Check the value by the rules of its kind, as the API does."""
        kind = kinds.KINDS.get(self.kind)
        if kind is None:
            return
        for column in set(kinds.COLUMNS) - set(kind.columns.values()):
            setattr(self, column, None)
        for field, column in kind.columns.items():
            try:
                setattr(self, column, kind.field(field).run_validation(getattr(self, column)))
            except exceptions.ValidationError as error:
                raise ValidationError({column: [str(detail) for detail in error.detail]}) from error
