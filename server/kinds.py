"""The server's half of each attribute kind: which columns it uses, and how its values are checked.

A new kind is a row in `crunch_tasks.contract.ATTRIBUTE_KINDS`, a row here, and a migration if it needs a new column.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from django.core.validators import MaxValueValidator, MinValueValidator, URLValidator
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers
from rest_framework.fields import empty

VALUE_LENGTH = 1023
INT64 = 2**63
URL_SCHEMES = ("http", "https", "ftp")


class ExplicitBooleanField(serializers.BooleanField):
    """A boolean that a form cannot set to false by leaving it out."""

    default_empty_html = empty


class FiniteFloatField(serializers.FloatField):
    """A float that is neither NaN nor infinite: JSON and PostgreSQL's sums know neither."""

    def to_internal_value(self, data: Any) -> float:
        value = super().to_internal_value(data)
        if not math.isfinite(value):
            self.fail("invalid")
        return value


@extend_schema_field({"oneOf": [{"type": "string", "format": "decimal"}, {"type": "number"}]})
class DegreesField(serializers.DecimalField):
    """Decimal degrees, rounded to 9 places (a tenth of a millimetre)."""

    def __init__(self, limit: int, **kwargs: Any) -> None:
        bounds = [MinValueValidator(Decimal(-limit)), MaxValueValidator(Decimal(limit))]
        super().__init__(max_digits=12, decimal_places=9, validators=bounds, **kwargs)
        self.limit = limit

    def validate_precision(self, value: Decimal) -> Decimal:
        if abs(value) <= self.limit:
            value = round(value, 9)
        return super().validate_precision(value)


AnyField = serializers.Field[Any, Any, Any, Any]


def _text(**kwargs: Any) -> AnyField:
    return serializers.CharField(max_length=VALUE_LENGTH, allow_blank=True, trim_whitespace=False, **kwargs)


def _integer(**kwargs: Any) -> AnyField:
    return serializers.IntegerField(min_value=-INT64, max_value=INT64 - 1, **kwargs)


def _filesize(**kwargs: Any) -> AnyField:
    return serializers.IntegerField(min_value=0, max_value=INT64 - 1, help_text="bytes", **kwargs)


def _url(**kwargs: Any) -> AnyField:
    # Other schemes (javascript:, data:) would be live when the page shows the value as a link.
    return serializers.CharField(max_length=VALUE_LENGTH, validators=[URLValidator(schemes=URL_SCHEMES)], **kwargs)


def _latitude(**kwargs: Any) -> AnyField:
    return DegreesField(90, **kwargs)


def _longitude(**kwargs: Any) -> AnyField:
    return DegreesField(180, **kwargs)


@dataclass(frozen=True)
class Kind:
    """`columns`: the field on the wire -> the column of `server.models.Attribute`; `fields`: how each is checked."""

    columns: Mapping[str, str]
    fields: Mapping[str, Callable[..., AnyField]]

    def field(self, name: str) -> AnyField:
        """A new serializer field for the value's part `name`."""
        column = self.columns[name]
        return self.fields[name]() if column == name else self.fields[name](source=column)


def _single(column: str, field: Callable[..., AnyField]) -> Kind:
    return Kind({"value": column}, {"value": field})


KINDS: Mapping[str, Kind] = {
    "char": _single("text", _text),
    "float": _single("number", FiniteFloatField),
    "int": _single("integer", _integer),
    "filesize": _single("integer", _filesize),
    "bool": _single("boolean", ExplicitBooleanField),
    "date": _single("date", serializers.DateField),
    "datetime": _single("moment", serializers.DateTimeField),
    "url": _single("text", _url),
    "lat-long": Kind(
        {"latitude": "latitude", "longitude": "longitude"},
        {"latitude": _latitude, "longitude": _longitude},
    ),
}

COLUMNS = sorted({column for kind in KINDS.values() for column in kind.columns.values()})
"""The columns of all kinds together."""
