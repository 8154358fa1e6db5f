"""The pages that ask before something of the catalogue is deleted: they say what goes with it, and what stays."""

from __future__ import annotations

from typing import Any, ClassVar

from django.contrib import messages
from django.db import transaction
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.views.generic import TemplateView

from crunch_tasks.contract import DatasetState
from server.models import Attribute, Dataset, Item, Project, Status
from server.pages import find
from server.pages.editing import At, Link, trail
from server.permissions import Act, actor_of
from server.services import edits


class DeletePage(TemplateView):
    template_name = "server/delete.html"
    acts: ClassVar = {"get": Act.EDIT, "post": Act.EDIT}
    thing: Item | Attribute
    name = ""
    """What it is to people: "dataset One"."""
    to_type = ""
    """What has to be typed before it is deleted, if anything."""
    trail: list[Link]
    back: str
    """Where to go when it is gone."""

    def find(self, at: At) -> None:
        """Find what the address names. Raises Http404 and PermissionDenied."""
        raise NotImplementedError

    def sentences(self) -> list[str]:
        """What goes, and what stays."""
        raise NotImplementedError

    def get(self, request: HttpRequest, *_: Any, **kwargs: Any) -> HttpResponse:  # noqa: ARG002
        self.find(kwargs)
        return self._ask()

    def post(self, request: HttpRequest, **kwargs: Any) -> HttpResponse:
        with transaction.atomic():
            self.find(kwargs)
            typed = request.POST.get("typed", "").strip()
            if typed != self.to_type:
                return self._ask(typed=typed, is_wrong=True)
            edits.delete(actor_of(request), self.thing)
        messages.success(request, f"The {self.name} is deleted.")
        return redirect(self.back)

    def _ask(self, **more: Any) -> HttpResponse:
        told = {"title": f"Delete the {self.name}?", "sentences": self.sentences(), "to_type": self.to_type}
        links = {"trail": self.trail, "back": self.trail[-1][0]}
        return self.render_to_response(self.get_context_data(**told, **links, **more))


class DeleteProject(DeletePage):
    acts: ClassVar = {"get": Act.MANAGE, "post": Act.MANAGE}
    thing: Project

    def find(self, at: At) -> None:
        self.thing = found = find.project(self.request, at["project"], Act.MANAGE)
        self.name, self.to_type = f"project {found.name}", found.slug
        self.trail = trail(find.place(found))
        self.back = self.trail[-2][0]

    def sentences(self) -> list[str]:
        counts = find.counts([self.thing])[self.thing.pk]
        told = [
            f"With it go {_count(counts.total, 'dataset', 'datasets')} with all statuses, attributes and items, "
            "its workflow with all versions, its members and its webhooks. Nothing brings them back.",
            f"The files stay in the storage, at {self.thing.slug}/. What was changed stays in the audit trail.",
        ]
        if counts.running:
            told.append(f"{_count(counts.running, 'dataset is', 'datasets are')} being processed now: that is lost.")
        return told


class DeleteDataset(DeletePage):
    thing: Dataset

    def find(self, at: At) -> None:
        self.thing = found = find.dataset(self.request, at["project"], at["dataset"], Act.EDIT)
        self.name = f"dataset {found.name}"
        self.trail = trail(find.place(found))
        self.back = self.trail[-2][0]

    def sentences(self) -> list[str]:
        statuses = Status.objects.filter(dataset=self.thing).count()
        told = [
            f"{_with(self.thing, _count(statuses, 'status', 'statuses'))} Nothing brings them back.",
            f"Its files stay in the storage, at {self.thing.base_file_path}/.",
        ]
        if self.thing.state == DatasetState.RUNNING.value:
            told.append("It is being processed now: that run is lost.")
        return told


class DeleteItem(DeletePage):
    thing: Item

    def find(self, at: At) -> None:
        place = find.plain_item(self.request, at["item"], Act.EDIT)
        self.thing, self.name, self.trail = place.item, f"item {place.item.name}", trail(place)
        self.back = self.trail[-2][0]

    def sentences(self) -> list[str]:
        return [f"{_with(self.thing)} Nothing brings them back."]


class DeleteAttribute(DeletePage):
    thing: Attribute

    def find(self, at: At) -> None:
        place = find.item(self.request, at["item"], Act.EDIT)
        rows = Attribute.objects.select_related("item")
        self.thing = get_object_or_404(rows, item=place.item.pk, pk=at["pk"])
        self.name, self.trail = f"attribute {self.thing.key}", trail(place)
        self.back = self.trail[-1][0]

    def sentences(self) -> list[str]:
        return [f"Its value is {self.thing.display}. Nothing brings it back."]


def _with(item: Item, *more: str) -> str:
    items = _count(item.children.count(), "item with all below it", "items with all below them")
    counted = [_count(item.attributes.count(), "attribute", "attributes"), items, *more]
    return f"With it go {', '.join(counted[:-1])} and {counted[-1]}."


def _count(number: int, one: str, many: str) -> str:
    return f"{number} {one if number == 1 else many}"
