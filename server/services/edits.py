"""Changing and deleting what is in the catalogue, as the API and the pages both do it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from django.contrib.auth.models import AnonymousUser, User
from django.db import transaction

from server.models import Attribute, Dataset, Item, Project
from server.permissions import CHANGES_OF, Act, Actor, project_of
from server.services import audit, catalogue, queue, workflows


def require_changes(actor: Actor, node: Project | Dataset, values: Mapping[str, Any]) -> None:
    """Raises PermissionDenied unless the actor may change those fields of the node that `values` would change."""
    require_fields(actor, node, [name for name, value in values.items() if value != getattr(node, name)])


def require_fields(actor: Actor, node: Project | Dataset, names: Iterable[str]) -> None:
    """Raises PermissionDenied, for the strictest need of them, unless the actor may change these fields of the node."""
    acts = {CHANGES_OF[type(node)].get(name, Act.EDIT) for name in names}
    for act in reversed(Act):
        if act in acts:
            actor.require(act, project_of(node))


def save_changes(node: Item, author: User | AnonymousUser, values: Mapping[str, Any]) -> None:
    """Save these fields of the node, and a new version of a workflow.

    Nothing else is written: the rest may have changed since the node was read, a hold was set for example. Raises
    ValidationError for what `catalogue.check_move` and `queue.check_kinds` refuse, DatabaseError when the node is there
    no more.
    """
    changes = dict(values)
    with transaction.atomic():
        if isinstance(node, Dataset):
            path = changes.pop("base_file_path", "") or node.base_file_path
            if path != node.base_file_path:
                catalogue.set_base_path(node, path)
            if changes.get("needs", node.needs) != node.needs:
                queue.check_kinds(node.project, [changes["needs"]])
        for name, value in changes.items():
            setattr(node, name, value)
        node.save(update_fields=[*changes, "modified"])
        if isinstance(node, Project):
            workflows.keep_version(node, author)


def delete(actor: Actor, thing: Item | Attribute) -> None:
    """Delete it with all that is below it, and note it. Files in the storage stay."""
    with transaction.atomic():
        audit.note(actor, "delete", name_of(thing), project_of(thing))
        thing.delete()


def name_of(thing: Item | Attribute) -> str:
    """What the audit trail calls it: its slug, or that of the item and the key of an attribute."""
    if isinstance(thing, Attribute):
        return f"{thing.item.slug} {thing.key}"[:255]
    return thing.slug
