"""Why a project's datasets failed: those that are failed now, in groups of the same stage and a similar error."""

from __future__ import annotations

from typing import Any, ClassVar

from django.db.models import Count
from django.views.generic import TemplateView

from server.models import Failure, Project
from server.pages import find
from server.pages.allowed import allowed
from server.permissions import Act

GROUPS_SHOWN = 50


class FailuresPage(TemplateView):
    template_name = "server/failures.html"
    acts: ClassVar = {"get": Act.SEE}

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        project = find.project(self.request, kwargs.pop("project"), self.acts["get"])
        return super().get_context_data(
            project=project,
            failed=find.counts([project])[project.pk].failed,
            groups=groups(project),
            limit=GROUPS_SHOWN,
            **allowed(self.request, project),
            **kwargs,
        )


def groups(project: Project) -> list[tuple[Failure, int]]:
    """The largest groups, with how many datasets each has now. It costs as much as there are failed datasets."""
    failed = project.datasets.filter(failure__isnull=False).order_by()
    sizes = failed.values_list("failure").annotate(size=Count("*")).order_by("-size", "-failure")[:GROUPS_SHOWN]
    found = dict(sizes)
    kinds = Failure.objects.in_bulk(found)
    return [(kinds[pk], size) for pk, size in found.items() if pk in kinds]
