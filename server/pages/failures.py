"""Why a project's datasets failed: those that are failed now, in groups of the same stage and a similar error."""

from __future__ import annotations

from typing import Any, ClassVar

from django.views.generic import TemplateView

from server.pages import find
from server.pages.allowed import allowed
from server.permissions import Act
from server.services.failures import GROUPS_SHOWN, groups


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
