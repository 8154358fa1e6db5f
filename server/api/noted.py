"""What views of the catalogue share: their acts, and that each change is checked, made and noted in one transaction."""

from __future__ import annotations

from typing import Any

from django.db import transaction

from server.models import Item
from server.permissions import Act, actor_of, project_of
from server.services import audit
from server.services.edits import name_of

CATALOGUE_ACTS = {
    "list": Act.SEE,
    "retrieve": Act.SEE,
    "create": Act.EDIT,
    "update": Act.EDIT,
    "partial_update": Act.EDIT,
    "destroy": Act.EDIT,
}


def check_item(view: Any, item: Item) -> None:
    """Raises Http404 or PermissionDenied unless the caller may do the view's act where the item belongs."""
    view.check_object_permissions(view.request, item)


def noted(view: Any, serializer: Any) -> Any:
    """Create or update by a checked serializer, and note it in the audit trail; returns what was made or changed."""
    before = None if serializer.instance is None else _shown(type(serializer)(serializer.instance))
    with transaction.atomic():
        made = serializer.save()
        after = _shown(type(serializer)(made))
        if after != before:
            act = "create" if before is None else "edit"
            audit.note(actor_of(view.request), act, name_of(made), project_of(made), before, after)
    return made


def _shown(serializer: Any) -> dict[str, Any]:
    """What the trail keeps of it: its own fields, not those of what is below it."""
    return {name: value for name, value in serializer.data.items() if name not in ("attributes", "items")}
