"""Columns of more than one table: text in the order of its characters, and what datasets ask of a machine."""

from __future__ import annotations

from typing import Any

from django.core.exceptions import ValidationError
from django.db import models

from crunch_tasks.needs import canonical


class PlainCharField(models.CharField):  # type: ignore[type-arg]
    """Text that every database orders by its characters' numbers, so that what begins alike stands together."""

    def db_parameters(self, connection: Any) -> dict[str, Any]:
        collation = "C" if connection.vendor == "postgresql" else None
        return {**super().db_parameters(connection), "collation": collation}


class NeedsField(PlainCharField):
    """What is asked of a machine, as the one text of `crunch_tasks.needs`."""

    def clean(self, value: Any, model_instance: Any) -> str:
        try:
            return str(super().clean(canonical(value or ""), model_instance))
        except ValueError as error:
            raise ValidationError(str(error)) from error
