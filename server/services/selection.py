"""A selection of a project's datasets, as its page filters them: what is listed, and what an act is done to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeVar

from django.db.models import QuerySet

from crunch_tasks.slugs import slug_part
from server.models import Dataset, Project
from server.models.datasets import DatasetQuerySet

Rows = TypeVar("Rows", bound=QuerySet[Any])

LAST_CHARACTER = "\U0010ffff"
"""Comes after every other character."""


@dataclass(frozen=True)
class Selection:
    """The datasets in a state, whose names begin like `text`, that failed of one cause; empty is any."""

    project: Project
    state: str = ""
    text: str = ""
    failure: int | None = None

    @property
    def by_key(self) -> bool:
        """Whether an index has these datasets in the order of their keys alone."""
        return bool(self.text) or self.failure is not None

    def told(self, count: int) -> dict[str, Any]:
        """What the audit trail says of an act on `count` datasets of the selection."""
        return {"count": count, "state": self.state, "search": self.text, "failure": self.failure}

    def rows(self) -> DatasetQuerySet:
        rows = Dataset.objects.filter(project=self.project)
        if self.state:
            rows = rows.filter(state=self.state)
        if self.failure is not None:
            rows = rows.filter(failure=self.failure)
        if self.text:
            # A slug may be looked for as well.
            prefix = slug_part(self.text.rpartition(":")[2])
            rows = beginning(rows, "key", prefix) if prefix else rows.none()
        return rows


def beginning(rows: Rows, column: str, prefix: str) -> Rows:
    """The rows whose text in this column, which is in the order of its characters, begins so."""
    return rows.filter(**{f"{column}__gte": prefix, f"{column}__lt": prefix + LAST_CHARACTER})
