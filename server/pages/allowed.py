"""What a page shows to whom: links and buttons for what the visitor may do, and nothing that would be refused."""

from __future__ import annotations

from django.http import HttpRequest

from server.models import Project
from server.permissions import Act, actor_of

NAMES = {
    "sees_machines": Act.SEE_MACHINES,
    "may_run": Act.RUN,
    "may_steer": Act.STEER,
    "may_edit": Act.EDIT,
    "may_manage": Act.MANAGE,
}


def allowed(request: HttpRequest, project: Project | None) -> dict[str, bool]:
    """For templates: whether the visitor may, by name; of what belongs to no project the staff alone."""
    actor = actor_of(request)
    return {name: actor.may(act, project) for name, act in NAMES.items()}
