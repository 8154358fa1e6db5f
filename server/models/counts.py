"""Numbers that are kept, so that nobody has to count rows: the datasets of a project in each state, and claims.

Each is the sum of rows that are appended: a counter in the project's row would make all of its claims wait for one
another. The database itself appends one for each change (`server.triggers`), whoever makes it.
`server.services.counts` folds the rows now and then.
"""

from __future__ import annotations

from django.db import models

from server.models.projects import Project


class StateCount(models.Model):
    """So many more, or fewer, datasets of the project are in this state, and failed of this `Failure` (its id), if any;
    the sum of all such rows is their number.
    """

    # No constraint: the rows of a project's datasets are still appended while the project is being deleted.
    project = models.ForeignKey(Project, models.DO_NOTHING, db_constraint=False, db_index=False, related_name="+")
    state = models.CharField(max_length=16)
    failure = models.BigIntegerField(null=True)
    delta = models.BigIntegerField()

    class Meta:
        indexes = [models.Index(fields=["project", "state", "failure", "delta"], name="server_counts")]

    def __str__(self) -> str:
        return f"{self.delta:+} {self.state} in {self.project_id}"


class ClaimCount(models.Model):
    """So many more claims were granted, or ended in one of the ways of `ClaimEnd`, since this server counts them."""

    event = models.CharField(max_length=16)
    delta = models.BigIntegerField()

    class Meta:
        indexes = [models.Index(fields=["event", "delta"], name="server_claim_count")]

    def __str__(self) -> str:
        return f"{self.delta:+} {self.event}"
