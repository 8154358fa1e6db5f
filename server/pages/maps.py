"""Where a project's datasets are on Earth: a map, and the same as a table.

The map is Leaflet, served by this site, over a plain grid of degrees: nothing is fetched from anywhere else.
"""

from __future__ import annotations

from typing import Any, ClassVar

from django.views.generic import TemplateView

from server.models import Project
from server.pages import find
from server.pages.live import asks_for_news
from server.pages.projects import STATES
from server.permissions import Act
from server.services import places


class Map(TemplateView):
    template_name = "server/map.html"
    acts: ClassVar = {"get": Act.SEE}

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        project = find.project(self.request, kwargs.pop("project"), self.acts["get"])
        told = version(project)
        found, cut = (None, False) if asks_for_news(self.request) else places.of(project)
        return super().get_context_data(
            project=project, version=told, places=found, cut=cut, most=places.POINTS, states=STATES, **kwargs
        )


def version(project: Project) -> str:
    """Another one when a dataset got another state, or somebody changed something of the project, such as a place."""
    state = project.datasets.order_by("-updated", "-pk").values_list("updated", flat=True).first()
    change = project.changes.order_by("-pk").values_list("pk", flat=True).first()
    return f"{state} {change}"
