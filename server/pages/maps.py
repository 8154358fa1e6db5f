"""Where a project's datasets are on Earth, by their lat-long attributes: a map, and the same as a table.

The map is Leaflet, served by this site, over a plain grid of degrees: nothing is fetched from anywhere else.
"""

from __future__ import annotations

from typing import Any, ClassVar

from django.views.generic import TemplateView

from server.models import Attribute, Project
from server.pages import find
from server.pages.projects import STATES
from server.permissions import Act

POINTS = 5000
"""The most places that are shown."""


class Map(TemplateView):
    template_name = "server/map.html"
    acts: ClassVar = {"get": Act.SEE}

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        project = find.project(self.request, kwargs.pop("project"), self.acts["get"])
        places = list(_places(project)[: POINTS + 1])
        return super().get_context_data(
            project=project, places=places[:POINTS], cut=len(places) > POINTS, most=POINTS, states=STATES, **kwargs
        )


def _places(project: Project) -> Any:
    found = Attribute.objects.filter(kind="lat-long", item__as_dataset__project=project)
    whole = found.filter(latitude__isnull=False, longitude__isnull=False)
    return whole.select_related("item__as_dataset").order_by("item", "id")
