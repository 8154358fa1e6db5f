"""Views of what belongs to one project, which is named in the address."""

from __future__ import annotations

from typing import Any

from crunch_tasks.errors import Refused
from server.api.base import API
from server.models import Project
from server.permissions import Act, actor_of


class ProjectPart(API):
    """A view of what belongs to one project, named in the address. Its lists have one order."""

    filter_backends: Any = []

    def project(self) -> Project:
        """The project, in which the caller may do the view's act."""
        slug = self.kwargs["slug"]
        found = None if "\x00" in slug else Project.objects.filter(slug=slug).first()
        if found is None or not actor_of(self.request).may(Act.SEE, found):
            raise Refused(f"There is no project {slug!r}.", 404, "not_found")
        self.check_object_permissions(self.request, found)
        return found
