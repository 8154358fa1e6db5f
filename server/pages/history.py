"""What people changed in a project: the audit trail, and the versions of its workflow with what differs."""

from __future__ import annotations

from typing import Any, ClassVar

from django.core.paginator import Paginator
from django.db.models import QuerySet
from django.http import HttpRequest
from django.shortcuts import get_object_or_404
from django.views.generic import TemplateView

from server.models import WorkflowVersion
from server.pages import find
from server.pages.allowed import allowed
from server.pages.live import asks_for_news
from server.pages.paging import ROWS
from server.permissions import Act
from server.services.workflows import changed_lines


def newest_first(request: HttpRequest, rows: QuerySet[Any]) -> dict[str, Any]:
    """A page of rows that only ever grow in number, counted only when there is a new one."""
    version = rows.order_by("-pk").values_list("pk", flat=True).first()
    page = None if asks_for_news(request) else Paginator(rows, ROWS).get_page(request.GET.get("page"))
    return {"version": version or "none", "page": page}


class Changes(TemplateView):
    template_name = "server/changes.html"
    acts: ClassVar = {"get": Act.SEE_MACHINES}

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        project = find.project(self.request, kwargs.pop("project"), self.acts["get"])
        page = newest_first(self.request, project.changes.select_related("user"))
        return super().get_context_data(project=project, **page, **kwargs)


class Workflows(TemplateView):
    """All versions."""

    template_name = "server/workflows.html"
    acts: ClassVar = {"get": Act.SEE}

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        project = find.project(self.request, kwargs.pop("project"), self.acts["get"])
        versions = project.workflow_versions.select_related("author").defer("text")
        page = newest_first(self.request, versions)
        return super().get_context_data(project=project, **page, **allowed(self.request, project), **kwargs)


class Workflow(TemplateView):
    """One version, and what differs from the one before."""

    template_name = "server/workflow.html"
    acts: ClassVar = {"get": Act.SEE}

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        project = find.project(self.request, kwargs.pop("project"), self.acts["get"])
        version = get_object_or_404(WorkflowVersion.objects.select_related("author"), project=project, pk=kwargs["pk"])
        before = project.workflow_versions.filter(pk__lt=version.pk).first()
        lines = list(changed_lines(before.text if before else "", version.text))
        may = allowed(self.request, project)
        return super().get_context_data(project=project, version=version, before=before, lines=lines, **may, **kwargs)
