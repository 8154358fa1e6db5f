"""Why a project's datasets failed, in groups of the same stage and a similar error."""

from __future__ import annotations

from django.db.models import Count

from server.models import Failure, Project

GROUPS_SHOWN = 50


def groups(project: Project) -> list[tuple[Failure, int]]:
    """The largest groups, with how many datasets each has now. It costs as much as there are failed datasets."""
    failed = project.datasets.filter(failure__isnull=False).order_by()
    sizes = failed.values_list("failure").annotate(size=Count("*")).order_by("-size", "-failure")[:GROUPS_SHOWN]
    found = dict(sizes)
    kinds = Failure.objects.in_bulk(found)
    return [(kinds[pk], size) for pk, size in found.items() if pk in kinds]
