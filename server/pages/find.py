"""Finding what an address names, for this visitor: what they may not see is not there (404)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

from django.db.models import QuerySet
from django.http import Http404, HttpRequest
from django.shortcuts import get_object_or_404

from server.models import Dataset, Item, Project
from server.pages.looks import Counts
from server.permissions import Act, actor_of
from server.services.counts import by_state

Node = TypeVar("Node", bound=Item)

MAX_DEPTH = 50
"""How far up the tree an item looks for its project; slugs run out of letters long before."""


def project(request: HttpRequest, slug: str, act: Act = Act.SEE) -> Project:
    """The project, in which the visitor may do this. Raises PermissionDenied when they may only see it."""
    found = _by_slug(Project.objects.all(), slug)
    actor_of(request).require(act, found)
    return found


def dataset(request: HttpRequest, project_slug: str, slug: str, act: Act = Act.SEE) -> Dataset:
    """The dataset with its project, claim and holder. Raises as `project` does."""
    rows = Dataset.objects.select_related("project", "lease_owner", "claim__cancelled_by")
    return _by_slug(rows.filter(project=project(request, project_slug, act)), slug)


@dataclass(frozen=True)
class Place:
    """An item in its tree: `above` are the plain items over it, the outermost first."""

    item: Item
    above: list[Item]
    dataset: Dataset | None
    project: Project | None


def place(found: Project | Dataset) -> Place:
    """Where a project or a dataset is in the tree: there are no plain items over it."""
    if isinstance(found, Dataset):
        return Place(found, [], found, found.project)
    return Place(found, [], None, found)


def item(request: HttpRequest, slug: str, act: Act = Act.SEE) -> Place:
    """An item of any kind. Raises as `project` does; one that belongs to no project is for the staff."""
    rows = Item.objects.select_related("as_dataset__project", "as_project")
    found = _by_slug(rows, slug)
    above: list[Item] = []
    current: Item | None = found
    for _ in range(MAX_DEPTH):
        if current is None:
            break
        if (owner := getattr(current, "as_dataset", None)) is not None:
            return _checked(request, act, Place(found, above[::-1], owner, owner.project))
        if (tree := getattr(current, "as_project", None)) is not None:
            return _checked(request, act, Place(found, above[::-1], None, tree))
        if current is not found:
            above.append(current)
        current = rows.filter(pk=current.parent_id or 0).first()
    return _checked(request, act, Place(found, above[::-1], None, None))


def plain_item(request: HttpRequest, slug: str, act: Act) -> Place:
    """An item that is no project and no dataset, which have pages of their own. Raises as `item` does."""
    found = item(request, slug, act)
    if not found.item.plain:
        raise Http404
    return found


def _by_slug(rows: QuerySet[Node], slug: str) -> Node:
    # PostgreSQL refuses to look for a NUL.
    if "\x00" in slug:
        raise Http404
    return get_object_or_404(rows, slug=slug)


def _checked(request: HttpRequest, act: Act, place: Place) -> Place:
    actor_of(request).require(act, place.project)
    return place


def counts(projects: list[Project]) -> dict[int, Counts]:
    """The state counts of each project, in one query."""
    return {pk: Counts(found) for pk, found in by_state(project.pk for project in projects).items()}
