"""Where a project's datasets are on Earth, by their lat-long attributes: dataset by dataset, some at a time."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import NamedTuple

from server import keyset
from server.models import Project

MOST = 1000
"""The most places that are read at once."""

COLUMNS = ("item_id", "pk")
"""Their order, which the index `server_attribute_place` has."""


class Place(NamedTuple):
    """`at` is where it stands in their order; `dataset` is the dataset's slug, `key` the attribute's."""

    item: int
    number: int
    dataset: str
    name: str
    state: str
    key: str
    latitude: Decimal
    longitude: Decimal

    @property
    def at(self) -> tuple[int, int]:
        return self.item, self.number


_VALUES = (*COLUMNS, "item__slug", "item__name", "item__as_dataset__state", "key", "latitude", "longitude")


def of(
    project: Project, size: int = MOST, after: tuple[int, int] | None = None, before: tuple[int, int] | None = None
) -> keyset.Part:
    """So many of the project's places: those after or else before where one stands, or else the first; in one query.

    As values: a thousand model instances would take longer than all the rest.
    """
    found = keyset.part(project.places.values_list(*_VALUES), COLUMNS, size, after, before)
    return replace(found, rows=[Place(*row) for row in found.rows])
