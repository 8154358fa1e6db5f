"""Where a project's datasets are on Earth, by their lat-long attributes."""

from __future__ import annotations

from django.db.models import QuerySet

from server.models import Attribute, Project

POINTS = 5000
"""The most places that are shown."""


def of(project: Project) -> tuple[list[Attribute], bool]:
    """The places of the project's datasets, POINTS of them at most, and whether there are more; in one query."""
    found = list(_places(project)[: POINTS + 1])
    return found[:POINTS], len(found) > POINTS


def _places(project: Project) -> QuerySet[Attribute]:
    found = Attribute.objects.filter(kind="lat-long", item__as_dataset__project=project)
    whole = found.filter(latitude__isnull=False, longitude__isnull=False)
    return whole.select_related("item__as_dataset").order_by("item", "id")
