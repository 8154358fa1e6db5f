"""Why a project's datasets failed, in groups of the same stage and a similar error."""

from __future__ import annotations

from server.models import Failure, Project
from server.services import counts

GROUPS_SHOWN = 50


def groups(project: Project) -> list[tuple[Failure, int]]:
    """The largest groups, with how many datasets each has now."""
    sizes = counts.by_failure(project.pk)
    largest = sorted(sizes, key=lambda pk: (-sizes[pk], -pk))[:GROUPS_SHOWN]
    kinds = Failure.objects.in_bulk(largest)
    return [(kinds[pk], sizes[pk]) for pk in largest if pk in kinds]
