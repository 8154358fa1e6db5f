"""The list of projects, and a project's page with its datasets by state."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from django.core.paginator import Paginator
from django.db.models import OuterRef, Subquery
from django.views.generic import TemplateView

from crunch_tasks.contract import DatasetState
from server.models import Dataset, Item, Project, Status
from server.pages import find
from server.pages.allowed import allowed
from server.pages.looks import Counts, attempt_number
from server.pages.paging import ROWS, counted
from server.permissions import Act, actor_of

STATES = (DatasetState.RUNNING, DatasetState.FAILED, DatasetState.COMPLETED, DatasetState.UNPROCESSED)
ITEMS_SHOWN = 50


class ProjectList(TemplateView):
    template_name = "server/projects.html"
    acts: ClassVar = {"get": Act.VISIT}

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        visible = actor_of(self.request).projects(Act.SEE).order_by("name", "pk")
        page = Paginator(visible, ROWS).get_page(self.request.GET.get("page"))
        counts = find.counts(list(page))
        rows = [(project, counts[project.pk]) for project in page]
        return super().get_context_data(page=page, rows=rows, **kwargs)


@dataclass(frozen=True)
class Row:
    """A dataset in its project's table."""

    dataset: Dataset
    last: Status | None
    attempt: int | None

    @property
    def updated(self) -> dt.datetime:
        return max(self.dataset.modified, self.last.created) if self.last else self.dataset.modified


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
        asked = self.request.GET.get("state", "")
        state = asked if asked in list(DatasetState) else ""
        datasets = project.datasets.filter(state=state) if state else project.datasets.all()
        page = counted(datasets.order_by("pk"), counts.of(state)).get_page(self.request.GET.get("page"))
        return super().get_context_data(
            project=project,
            counts=counts,
            tabs=_tabs(counts, state),
            state=state,
            page=page,
            rows=_rows(project, list(_with_last_status(page.object_list))),
            attributes=project.attributes.all(),
            items=Item.objects.filter(parent=project, as_dataset=None, as_project=None)[:ITEMS_SHOWN],
            **allowed(self.request, project),
            **kwargs,
        )


def _tabs(counts: Counts, current: str) -> list[Tab]:
    words = ("", *(state.value for state in STATES))
    return [Tab(word, counts.of(word), word == current) for word in words]


def _with_last_status(datasets: Any) -> Any:
    """One page of datasets, each with the id of its last effective status, read from the end of its history."""
    last = Status.objects.filter(dataset=OuterRef("pk"), effective=True).order_by("-fence", "-id")
    return datasets.select_related("lease_owner").annotate(last_status=Subquery(last.values("pk")[:1]))


def _rows(project: Project, datasets: Sequence[Any]) -> list[Row]:
    statuses = Status.objects.defer("note").in_bulk([found.last_status for found in datasets if found.last_status])
    return [
        Row(found, statuses.get(found.last_status or 0), attempt_number(found, project.max_attempts))
        for found in datasets
    ]
