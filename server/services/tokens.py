"""Access tokens: made, shown once, found again by their hash."""

from __future__ import annotations

import datetime as dt
import hashlib
import secrets

from django.contrib.auth.models import User
from django.db.models import Q
from django.utils import timezone

from crunch_tasks.errors import Refused
from server.models import AccessToken, Project, Role

PREFIX = "crunch_"
"""What every key begins with, so that scanners for leaked secrets, and we, know one."""

LAST_USED_EVERY = dt.timedelta(minutes=1)
"""How exactly the last use is kept: not every call is to be a write."""

MOST = 100
"""How many tokens a person may have."""


def create(
    user: User, name: str, *, role: Role, project: Project | None = None, expires: dt.datetime | None = None
) -> tuple[AccessToken, str]:
    """A new token and its key, which nobody can see again. Raises Refused: 400 `expired`, 409 `too_many`."""
    if expires is not None and expires <= timezone.now():
        raise Refused("The token would have expired already: choose a later moment.", 400, "expired")
    if AccessToken.objects.filter(user=user).count() >= MOST:
        raise Refused(f"You have {MOST} tokens already. End some of them first.", 409, "too_many")
    key = PREFIX + secrets.token_urlsafe(32)
    made = AccessToken.objects.create(
        user=user, name=name, digest=_digest(key), project=project, role=role.value, expires=expires
    )
    return made, key


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
