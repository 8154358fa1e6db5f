"""A project's members: whom it lets in, as what. Each change is noted in the audit trail."""

from __future__ import annotations

from django.contrib.auth.models import User
from django.db import transaction

from crunch_tasks.errors import Refused
from server.models import Membership, Project, Role
from server.permissions import Actor
from server.services import audit


def person(name: str) -> User:
    """The user with this name. Raises Refused (404)."""
    # PostgreSQL refuses to look for a NUL.
    found = None if "\x00" in name else User.objects.filter(username=name, is_active=True).first()
    if found is None:
        raise Refused(f"There is no user {name!r}. People get their names from the site's staff.", 404, "not_found")
    return found


def set_member(actor: Actor, project: Project, user: User, role: Role, *, edits_workflow: bool = False) -> Membership:
    """Make the user a member, or change what they may do. Raises Refused: 409 `last_manager`."""
    with transaction.atomic():
        _lock(project)
        if role is not Role.MANAGER:
            _refuse_last_manager(project, user)
        before = project.memberships.filter(user=user).values("role", "edits_workflow").first()
        now = {"role": role.value, "edits_workflow": edits_workflow}
        made, _ = Membership.objects.update_or_create(project=project, user=user, defaults=now)
        audit.note(actor, "set member", user.get_username(), project, before, now)
    return made


def remove_member(actor: Actor, project: Project, user: User) -> None:
    """End a membership; a run of theirs that is going on has lost its right too. Raises Refused: 404, 409."""
    with transaction.atomic():
        _lock(project)
        _refuse_last_manager(project, user)
        deleted, _ = Membership.objects.filter(project=project, user=user).delete()
        if not deleted:
            raise Refused(f"{user.get_username()} is no member of {project.slug}.", 404, "not_found")
        audit.note(actor, "remove member", user.get_username(), project)


def _lock(project: Project) -> None:
    # Of two managers who remove one another at once, the second is refused.
    Project.objects.select_for_update(of=("self",)).get(pk=project.pk)


def _refuse_last_manager(project: Project, user: User) -> None:
    managers = set(project.memberships.filter(role=Role.MANAGER.value).values_list("user", flat=True))
    if managers == {user.pk}:
        raise Refused(
            f"{user.get_username()} is the only manager of {project.slug}. Make somebody else one first.",
            409,
            "last_manager",
        )
