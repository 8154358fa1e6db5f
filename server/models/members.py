"""People's rights in projects: members with a role, and tokens that may do a part of what their owner may."""

from __future__ import annotations

import datetime as dt

from django.conf import settings
from django.db import models
from django.utils import timezone

from server.models.projects import Project


class Role(models.TextChoices):
    """What a member may do, each role all that the ones before it may; which act needs which: `server.permissions`."""

    VIEWER = "viewer"
    RUNNER = "runner"
    EDITOR = "editor"
    MANAGER = "manager"

    @property
    def rank(self) -> int:
        return list(Role).index(self)


class Membership(models.Model):
    project = models.ForeignKey(Project, models.CASCADE, related_name="memberships")
    user = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE, related_name="crunch_memberships")
    role = models.CharField(max_length=16, choices=Role.choices, default=Role.VIEWER.value)
    edits_workflow = models.BooleanField(
        default=False, help_text="May change the workflow, which runs on every client's machine. Managers always may."
    )

    class Meta:
        ordering = ("project", "user")
        constraints = [models.UniqueConstraint(fields=["project", "user"], name="server_one_membership")]

    def __str__(self) -> str:
        return f"{self.user} is {self.role} of {self.project}"


class AccessToken(models.Model):
    """A key of a user's client. Only its SHA-256 is kept: 256 random bits need no salt and no slow hash."""

    user = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE, related_name="crunch_tokens")
    name = models.CharField(max_length=100, help_text="Which client it is for.")
    digest = models.CharField(max_length=64, unique=True, editable=False)
    project = models.ForeignKey(
        Project, models.CASCADE, null=True, blank=True, related_name="+", help_text="Only for this one; empty: for all."
    )
    role = models.CharField(
        max_length=16, choices=Role.choices, default=Role.RUNNER.value, help_text="It may do no more than this role."
    )
    created = models.DateTimeField(auto_now_add=True)
    expires = models.DateTimeField(null=True, blank=True)
    last_used = models.DateTimeField(null=True, editable=False)

    class Meta:
        ordering = ("id",)

    def __str__(self) -> str:
        return self.name

    @property
    def expired(self) -> bool:
        return self.expires is not None and self.expires <= timezone.now()

    @property
    def is_scoped(self) -> bool:
        """Whether it may do less than its owner."""
        return self.project_id is not None or self.role != Role.MANAGER.value

    def used_recently(self, within: dt.timedelta) -> bool:
        return self.last_used is not None and self.last_used > timezone.now() - within
