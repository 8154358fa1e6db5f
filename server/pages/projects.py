"""The list of projects, and a project's page with the grid of its datasets and their stages."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from django.core.paginator import Paginator
from django.views.generic import TemplateView

from crunch_tasks.contract import DatasetState
from server.models import Item
from server.pages import find, grid, looks
from server.pages.allowed import allowed
from server.pages.looks import Counts
from server.pages.paging import ROWS
from server.permissions import Act, actor_of
from server.services import pace

STATES = (DatasetState.RUNNING, DatasetState.FAILED, DatasetState.COMPLETED, DatasetState.UNPROCESSED)
ITEMS_SHOWN = 50


class ProjectList(TemplateView):
    template_name = "server/projects.html"
    acts: ClassVar = {"get": Act.VISIT}

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        actor = actor_of(self.request)
        visible = actor.projects(Act.SEE).order_by("name", "pk")
        page = Paginator(visible, ROWS).get_page(self.request.GET.get("page"))
        counts = find.counts(list(page))
        rows = [(project, counts[project.pk]) for project in page]
        return super().get_context_data(page=page, rows=rows, may_create=actor.may(Act.CREATE_PROJECT), **kwargs)


@dataclass(frozen=True)
class Tab:
    """A filter above the table: its state ("" for all) and how many datasets it shows."""

    state: str
    count: int
    current: bool


class ProjectPage(TemplateView):
    template_name = "server/project.html"
    acts: ClassVar = {"get": Act.SEE}

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        project = find.project(self.request, kwargs.pop("project"))
        counts = find.counts([project])[project.pk]
        chosen = grid.selection(project, self.request.GET)
        sort = grid.order(chosen, self.request.GET)
        return super().get_context_data(
            project=project,
            counts=counts,
            pace=looks.pace(counts, pace.of(project)),
            tabs=_tabs(counts, chosen.state),
            chosen=chosen,
            failure=grid.failure(chosen),
            sort=sort,
            orders=grid.ORDERS,
            page=grid.page(chosen, sort, self.request.GET),
            attributes=project.attributes.all(),
            items=Item.objects.filter(parent=project, plain=True)[:ITEMS_SHOWN],
            **allowed(self.request, project),
            **kwargs,
        )


def _tabs(counts: Counts, current: str) -> list[Tab]:
    words = ("", *(state.value for state in STATES))
    return [Tab(word, counts.of(word), word == current) for word in words]
