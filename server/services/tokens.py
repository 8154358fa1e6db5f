"""Access tokens: made, shown once, found again by their hash, ended. What people do is noted in the audit trail."""

from __future__ import annotations

import datetime as dt
import hashlib
import secrets
from typing import cast

from django.contrib.auth.models import User
from django.db import transaction
from django.db.models import Q
from django.utils import timezone

from crunch_tasks.errors import Refused
from server.models import AccessToken, Project, Role
from server.permissions import Actor
from server.services import audit

PREFIX = "crunch_"
"""What every key begins with, so that scanners for leaked secrets, and we, know one."""

LAST_USED_EVERY = dt.timedelta(minutes=1)
"""How exactly the last use is kept: not every call is to be a write."""

MOST = 100
"""How many tokens a person may have."""


def create(
    actor: Actor, name: str, *, role: Role, project: Project | None = None, expires: dt.datetime | None = None
) -> tuple[AccessToken, str]:
    """A token for the actor, and its key, which nobody sees again. Raises Refused: 400 `expired`, 409 `too_many`."""
    if expires is not None and expires <= timezone.now():
        raise Refused("The token would have expired already: choose a later moment.", 400, "expired")
    user = cast("User", actor.user)
    if AccessToken.objects.filter(user=user).count() >= MOST:
        raise Refused(f"You have {MOST} tokens already. End some of them first.", 409, "too_many")
    key = PREFIX + secrets.token_urlsafe(32)
    with transaction.atomic():
        made = AccessToken.objects.create(
            user=user, name=name, digest=_digest(key), project=project, role=role.value, expires=expires
        )
        audit.note(actor, "make token", name, project)
    return made, key


def end(actor: Actor, token: AccessToken) -> None:
    """Clients that sign in with the token are refused from now on."""
    with transaction.atomic():
        audit.note(actor, "end token", token.name, token.project)
        token.delete()


def find(key: str) -> AccessToken | None:
    """The token with this key, whether it has expired or not; notes that it was used."""
    found = AccessToken.objects.select_related("user").filter(digest=_digest(key)).first()
    if found is not None and not found.expired and not found.used_recently(LAST_USED_EVERY):
        now = timezone.now()
        stale = Q(last_used=None) | Q(last_used__lt=now - LAST_USED_EVERY)
        AccessToken.objects.filter(stale, pk=found.pk).update(last_used=now)
    return found


def _digest(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()
