"""How many datasets a project has in each state, kept so that no page has to count them.

The database itself appends a row for each change (`server.triggers`), whoever makes it: a counter in the project's
row would make all of its claims wait for one another. `server.services.counts` folds the rows now and then.
"""

from __future__ import annotations

from django.db import models

from server.models.projects import Project


class StateCount(models.Model):
    """So many more, or fewer, datasets of the project are in this state; the sum of all such rows is their number."""

    # No constraint: the rows of a project's datasets are still appended while the project is being deleted.
    project = models.ForeignKey(Project, models.DO_NOTHING, db_constraint=False, db_index=False, related_name="+")
    state = models.CharField(max_length=16)
    delta = models.BigIntegerField()

    class Meta:
        indexes = [models.Index(fields=["project", "state", "delta"], name="server_state_count")]

    def __str__(self) -> str:
        return f"{self.delta:+} {self.state} in {self.project_id}"
