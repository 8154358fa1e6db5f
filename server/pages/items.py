"""An item's page: a part of a dataset or project with attributes and parts of its own."""

from __future__ import annotations

from typing import Any, ClassVar

from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.views.generic import TemplateView

from server.pages import find
from server.pages.allowed import allowed
from server.pages.projects import ITEMS_SHOWN
from server.permissions import Act


class ItemPage(TemplateView):
    template_name = "server/item.html"
    acts: ClassVar = {"get": Act.SEE}

    def get(self, request: HttpRequest, item: str) -> HttpResponse:
        place = find.item(request, item)
        if (page := _own_page(place)) is not None:
            return page
        return self.render_to_response(self.get_context_data(place=place))

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        item = kwargs["place"].item
        children = item.children.prefetch_related("attributes")[:ITEMS_SHOWN]
        may = allowed(self.request, kwargs["place"].project)
        return super().get_context_data(item=item, attributes=item.attributes.all(), items=children, **may, **kwargs)


def _own_page(place: find.Place) -> HttpResponse | None:
    """Where a dataset or project is shown, which are items too."""
    if place.dataset is not None and place.dataset.pk == place.item.pk:
        return redirect("crunch:dataset", place.dataset.project.slug, place.dataset.slug)
    if place.project is not None and place.project.pk == place.item.pk:
        return redirect("crunch:project", place.project.slug)
    return None
