"""Where a project's datasets are on Earth: a map, and the same as a table.

The map is Leaflet, served by this site, over a plain grid of degrees: nothing is fetched from anywhere else. Its script
gets the places as compact JSON: as rows of a table they would be most of what the server does, and of the page.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar

from django.core.paginator import Paginator
from django.views.generic import TemplateView

from server.models import Project
from server.pages import find, looks
from server.pages.live import asks_for_news
from server.pages.paging import ROWS
from server.pages.projects import STATES
from server.permissions import Act
from server.services import places
from server.services.places import Place


class Map(TemplateView):
    template_name = "server/map.html"
    acts: ClassVar = {"get": Act.SEE}

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        project = find.project(self.request, kwargs.pop("project"), self.acts["get"])
        told = {"project": project, "version": version(project), "states": STATES, **kwargs}
        if not asks_for_news(self.request):
            found, cut = places.of(project)
            page = Paginator(found, ROWS).get_page(self.request.GET.get("page"))
            told |= {"places": compact(found), "cut": cut, "page": page, "rows": [(row, text(row)) for row in page]}
        return super().get_context_data(**told)


def compact(found: Iterable[Place]) -> dict[str, Any]:
    """The places for the map's script, a short list each; their states are numbers of the states beside them."""
    states = [state.value for state in STATES]
    number = {state: index for index, state in enumerate(states)}
    rows = [
        (place.dataset, place.name, place.key, float(place.latitude), float(place.longitude), number[place.state])
        for place in found
    ]
    return {"states": states, "places": rows}


def text(place: Place) -> str:
    return looks.place(float(place.latitude), float(place.longitude)).text


def version(project: Project) -> str:
    """Another one when a dataset got another state, or somebody changed something of the project, such as a place."""
    state = project.datasets.order_by("-updated", "-pk").values_list("updated", flat=True).first()
    change = project.changes.order_by("-pk").values_list("pk", flat=True).first()
    return f"{state} {change}"
