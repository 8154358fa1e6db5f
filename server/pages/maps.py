"""Where a project's datasets are on Earth: a map, and the same as a table.

The map is Leaflet, served by this site, over a plain grid of degrees: nothing is fetched from anywhere else. Its script
gets the places as compact JSON: as rows of a table they would be most of what the server does, and of the page. The
first are in the page, and it asks for the further ones in turn, so that no answer grows with the project.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, ClassVar

from django.http import HttpRequest, JsonResponse
from django.views.generic import TemplateView, View

from server.keyset import Part
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
            found = places.of(project)
            # With the version the script sees, when the first ones are the same, that further ones may be others.
            told["places"] = compact(found) | {"version": told["version"]}
            told |= {"lead": lead(found), "page": table(project, self.request.GET)}
        return super().get_context_data(**told)


class FurtherPlaces(View):
    """The places after the cursor `after`, as the map's script asks for them."""

    http_method_names = ["get", "head"]
    acts: ClassVar = {"get": Act.SEE}

    def get(self, request: HttpRequest, project: str) -> JsonResponse:
        found = places.of(find.project(request, project, self.acts["get"]), after=_read(request.GET, "after"))
        return JsonResponse(compact(found))


def lead(found: Part) -> str:
    """How many there are, as far as that is known."""
    count = len(found.rows)
    if found.after:
        return f"The first {count:,} places of this project's datasets. The table below leads to the others."
    return f"{count:,} place{'' if count == 1 else 's'} of this project's datasets."


def table(project: Project, query: Mapping[str, str]) -> dict[str, Any]:
    """A page of the table: its rows, and the cursors of the pages before and after it; empty where there is none."""
    found = places.of(project, ROWS, _read(query, "after"), _read(query, "before"))
    rows = [(place, text(place)) for place in found.rows]
    return {
        "rows": rows,
        "before": cursor(found.rows[0]) if rows and found.before else "",
        "after": cursor(found.rows[-1]) if rows and found.after else "",
    }


def cursor(place: Place) -> str:
    """Where the place stands, as addresses say it."""
    return f"{place.item}-{place.number}"


def _read(query: Mapping[str, str], name: str) -> tuple[int, int] | None:
    """Where the cursor of this name stands; None for none and for nonsense."""
    found = re.fullmatch(r"([0-9]{1,18})-([0-9]{1,18})", query.get(name, ""))
    return (int(found[1]), int(found[2])) if found else None


def compact(found: Part) -> dict[str, Any]:
    """The places for the map's script, a short list each, and the cursor of the next ones, or an empty one.

    Their states are numbers of the states beside them.
    """
    states = [state.value for state in STATES]
    number = {state: index for index, state in enumerate(states)}
    rows = [
        (place.dataset, place.name, place.key, float(place.latitude), float(place.longitude), number[place.state])
        for place in found.rows
    ]
    return {"states": states, "places": rows, "next": cursor(found.rows[-1]) if found.after else ""}


def text(place: Place) -> str:
    return looks.place(float(place.latitude), float(place.longitude)).text


def version(project: Project) -> str:
    """Another one when a dataset got another state, or somebody changed something of the project, such as a place."""
    state = project.datasets.order_by("-updated", "-pk").values_list("updated", flat=True).first()
    change = project.changes.order_by("-pk").values_list("pk", flat=True).first()
    return f"{state} {change}"
