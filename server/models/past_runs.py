"""How long the last completed runs of a project took, to tell whether another one ends in time."""

from __future__ import annotations

from django.db import models

from server.models.projects import Project


class PastRun(models.Model):
    """A completed run of the project: seconds from its claim to its commit. Old ones are removed."""

    project = models.ForeignKey(Project, models.CASCADE, db_index=False, related_name="+")
    seconds = models.FloatField()

    class Meta:
        indexes = [models.Index(fields=["project", "-id"], name="server_past_runs")]

    def __str__(self) -> str:
        return f"{self.seconds} s in {self.project_id}"
