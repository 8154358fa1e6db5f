"""A dataset's page: its state, its run's stages, attributes, items, files, and the whole status history."""

from __future__ import annotations

from typing import Any, ClassVar

from django.core.paginator import Paginator
from django.http import HttpResponse
from django.views.generic import TemplateView

from crunch_tasks.contract import DatasetState
from server.models import Dataset, Item, Status
from server.pages import files, find, uploads
from server.pages.allowed import allowed
from server.pages.live import asks_for_news
from server.pages.looks import attempt_number, timeline
from server.pages.middleware import policy
from server.pages.paging import HISTORY_ROWS
from server.pages.projects import ITEMS_SHOWN
from server.permissions import Act
from server.services.datasets import is_running
from server.services.queue import cancelled
from server.services.running import log_tail, progress
from server.services.uploads import MOST_BYTES, takes_files

RUN_STATUSES = 24
"""Statuses that are looked at for the last run; a run has at most six, and a few when a stage is done again."""


class DatasetPage(TemplateView):
    template_name = "server/dataset.html"
    acts: ClassVar = {"get": Act.SEE}

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        dataset = find.dataset(self.request, kwargs.pop("project"), kwargs.pop("dataset"))
        statuses = Status.objects.filter(dataset=dataset)
        history = statuses.select_related("site_user", "claim").order_by("-id")
        effective = statuses.filter(effective=True).order_by("-fence", "-id")
        latest = list(effective[:RUN_STATUSES])
        may = allowed(self.request, dataset.project)
        listed = None if asks_for_news(self.request) else files.page(dataset, self.request.GET.get("files"))
        return super().get_context_data(
            project=dataset.project,
            dataset=dataset,
            attempt=attempt_number(dataset, dataset.project.max_attempts),
            stages=timeline(dataset, latest),
            failure=latest[0].note if latest and dataset.state == DatasetState.FAILED.value else "",
            progress=progress(dataset.progress),
            log_tail=log_tail(dataset),
            history=Paginator(history, HISTORY_ROWS).get_page(self.request.GET.get("page")),
            attributes=dataset.attributes.all(),
            items=Item.objects.filter(parent=dataset).prefetch_related("attributes")[:ITEMS_SHOWN],
            files=listed,
            # What could not be listed has none, so that it is tried again.
            version="" if listed and listed.problem else files.version(dataset),
            takes_files=takes_files(dataset),
            # Also of a dataset that takes none now: it may later, while the page is open.
            direct=uploads.origin(self.request, dataset) if may["may_edit"] and listed else "",
            most_bytes=MOST_BYTES,
            buttons=buttons(dataset) if may["may_steer"] else [],
            retriable=may_retry(dataset),
            **may,
            **kwargs,
        )

    def render_to_response(self, context: dict[str, Any], **kwargs: Any) -> HttpResponse:
        response = super().render_to_response(context, **kwargs)
        if context["direct"]:
            response.headers["Content-Security-Policy"] = policy(context["direct"])
        return response


def buttons(dataset: Dataset) -> list[tuple[str, str]]:
    """What a person may do with the dataset now: the name of each action's address, and its label."""
    found = []
    if may_cancel(dataset):
        found.append(("cancel", "Cancel run"))
    if may_retry(dataset):
        found.append(("retry", "Retry"))
    found.append(("let-go", "Let go") if dataset.locked else ("hold", "Hold"))
    return found


def may_cancel(dataset: Dataset) -> bool:
    return is_running(dataset) and not cancelled(dataset)


def may_retry(dataset: Dataset) -> bool:
    return dataset.state != DatasetState.UNPROCESSED.value and not is_running(dataset)
