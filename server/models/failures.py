"""What datasets failed of: one row for all failures of a project that are alike."""

from __future__ import annotations

from django.db import models

from crunch_tasks.contract import Stage
from server.models.projects import Project
from server.signatures import EXAMPLE_LENGTH, SIGNATURE_LENGTH


class Failure(models.Model):
    """A kind of failure: the stage, and what its notes have in common. Its datasets are those that are failed now."""

    project = models.ForeignKey(Project, models.CASCADE, db_index=False, related_name="failures")
    stage = models.PositiveSmallIntegerField(choices=[(word.value, word.name.capitalize()) for word in Stage])
    signature = models.CharField(max_length=SIGNATURE_LENGTH, help_text="Made by server.signatures.")
    example = models.CharField(max_length=EXAMPLE_LENGTH, help_text="What the first of them said.")

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["project", "stage", "signature"], name="server_failure_signature")
        ]

    def __str__(self) -> str:
        return self.signature
