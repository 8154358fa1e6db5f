"""What people changed: every version of a project's workflow, and the audit trail."""

from __future__ import annotations

from django.conf import settings
from django.db import models

from server.models.projects import Project


class WorkflowVersion(models.Model):
    """A project's workflow as somebody left it. The newest is the project's own."""

    project = models.ForeignKey(Project, models.CASCADE, related_name="workflow_versions")
    text = models.TextField(blank=True)
    type = models.CharField(max_length=16)
    sha256 = models.CharField(max_length=64)
    author = models.ForeignKey(settings.AUTH_USER_MODEL, models.SET_NULL, null=True, related_name="+")
    created = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ("-id",)
        indexes = [models.Index(fields=["project", "-id"], name="server_workflow_versions")]

    def __str__(self) -> str:
        return f"workflow {self.sha256[:12]} of {self.project}"


class Change(models.Model):
    """A line of the audit trail: who did what to which thing, and with which token.

    `target` and `project_slug` are text, so that the line outlives what it tells of.
    """

    project = models.ForeignKey(Project, models.SET_NULL, null=True, db_constraint=False, related_name="changes")
    project_slug = models.CharField(max_length=255, blank=True, default="")
    user = models.ForeignKey(settings.AUTH_USER_MODEL, models.SET_NULL, null=True, related_name="+")
    token_name = models.CharField(max_length=100, blank=True, default="")
    act = models.CharField(max_length=64)
    target = models.CharField(max_length=255)
    before = models.JSONField(null=True)
    after = models.JSONField(null=True)
    created = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ("-id",)
        indexes = [
            models.Index(fields=["project", "-id"], name="server_changes"),
            models.Index(fields=["target"], name="server_changes_deleted", condition=models.Q(act="delete")),
        ]

    def __str__(self) -> str:
        return f"{self.act} {self.target}"
