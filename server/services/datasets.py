"""What a person decides about datasets: start over, hold, let go."""

from __future__ import annotations

from django.db import transaction
from django.db.models import F

from crunch_tasks.contract import DatasetState
from server.models import Dataset, Project
from server.models.claims import ClaimEnd
from server.services import life


def reset(dataset_id: int) -> Dataset:
    """Make the dataset unprocessed again, whatever it was. Its history stays; a run that is going on has lost it.

    Raises Refused (404) when it does not exist.
    """
    with transaction.atomic():
        dataset = life.locked_row(dataset_id)
        life.end_claim(dataset.claim, ClaimEnd.RESET)
        Dataset.objects.filter(pk=dataset.pk).update(
            state=DatasetState.UNPROCESSED.value, fence=dataset.fence + 1, attempt=0, **life.NO_LEASE
        )
    return Dataset.objects.get(pk=dataset_id)


def reset_failed(project: Project) -> int:
    """Make all failed datasets of the project unprocessed again; how many there were."""
    return project.datasets.failed().update(
        state=DatasetState.UNPROCESSED.value, fence=F("fence") + 1, attempt=0, **life.NO_LEASE
    )


def set_hold(dataset_id: int, locked: bool) -> None:
    """Hold the dataset, so that nobody claims it, or let it go. A run that is going on is not touched."""
    Dataset.objects.filter(pk=dataset_id).update(locked=locked)
