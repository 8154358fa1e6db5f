"""The audit trail: who changed what, written in the transaction of the change."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.contrib.auth.models import User

from server.models import Change, Project
from server.permissions import Actor

TEXT_KEPT = 1000
"""Of a long text the trail keeps so many characters; a workflow's versions are kept whole."""


def note(
    actor: Actor,
    act: str,
    target: str,
    project: Project | None = None,
    before: Mapping[str, Any] | None = None,
    after: Mapping[str, Any] | None = None,
) -> Change:
    """Note that the actor did this. Of `before` and `after`, values of JSON, only what differs is kept."""
    old, new = dict(before or {}), dict(after or {})
    differs = [name for name in {**old, **new} if name not in old or name not in new or old[name] != new[name]]
    return Change.objects.create(
        project=project,
        project_slug=project.slug if project is not None else "",
        user=actor.user if isinstance(actor.user, User) else None,
        token_name=actor.token.name if actor.token is not None else "",
        act=act,
        target=target,
        before={name: _short(old[name]) for name in differs if name in old} or None,
        after={name: _short(new[name]) for name in differs if name in new} or None,
    )


def amend(change: Change, after: Mapping[str, Any]) -> None:
    """More of what was noted has been done."""
    change.after = {**(change.after or {}), **after}
    change.save(update_fields=["after"])


def _short(value: Any) -> Any:
    return f"{value[:TEXT_KEPT]}…" if isinstance(value, str) and len(value) > TEXT_KEPT else value
