"""Views of what belongs to one project or one dataset, which is named in the address."""

from __future__ import annotations

from typing import Any, TypeVar

from django.db.models import QuerySet

from crunch_tasks.errors import Refused
from server.api.base import API
from server.api.filters import Unnarrowed
from server.models import Dataset, Item, Project
from server.permissions import Act, actor_of, project_of

Node = TypeVar("Node", bound=Item)


class Part(API):
    """Its lists have one order."""

    filter_backends: Any = [Unnarrowed]

    def named(self, rows: QuerySet[Node]) -> Node:
        """That of the rows which the address names. Raises Refused, and PermissionDenied by the view's act."""
        slug = self.kwargs["slug"]
        # PostgreSQL refuses to look for a NUL.
        found = None if "\x00" in slug else rows.filter(slug=slug).first()
        if found is None or not actor_of(self.request).may(Act.SEE, project_of(found)):
            raise Refused(f"There is no {rows.model._meta.verbose_name} {slug!r}.", 404, "not_found")
        self.check_object_permissions(self.request, found)
        return found


class ProjectPart(Part):
    """A view of what belongs to one project, named in the address."""

    def project(self) -> Project:
        """The project, in which the caller may do the view's act."""
        return self.named(Project.objects.all())


class DatasetPart(Part):
    """A view of what belongs to one dataset, named in the address."""

    def dataset(self) -> Dataset:
        """The dataset with its project, in which the caller may do the view's act."""
        return self.named(Dataset.objects.select_related("project"))
