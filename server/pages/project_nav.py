"""The pages of a project, as the row of links at the head of each: those that this visitor may open."""

from __future__ import annotations

from dataclasses import dataclass

from django.http import HttpRequest
from django.urls import reverse

from server.models import Project
from server.permissions import Act, actor_of

PAGES = (
    ("project", "Datasets", Act.SEE),
    ("failures", "Failures", Act.SEE),
    ("map", "Map", Act.SEE),
    ("workflows", "Workflow", Act.SEE),
    ("members", "Members", Act.SEE_MACHINES),
    ("changes", "Changes", Act.SEE_MACHINES),
    ("webhooks", "Webhooks", Act.MANAGE),
)
"""The name of each page's address, its word, and what its visitors need."""


@dataclass(frozen=True)
class Link:
    """A link, and whether it leads to the page that it is on."""

    href: str
    word: str
    here: bool


def links(request: HttpRequest, project: Project, here: str) -> list[Link]:
    actor = actor_of(request)
    return [
        Link(reverse(f"crunch:{name}", args=[project.slug]), word, name == here)
        for name, word, act in PAGES
        if actor.may(act, project)
    ]
