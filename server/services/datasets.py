"""What a person decides about datasets: start over, hold, let go."""

from __future__ import annotations

from django.db import transaction
from django.db.models import F

from crunch_tasks.contract import DatasetState
from crunch_tasks.errors import Refused
from server.models import Dataset, Project
from server.models.claims import ClaimEnd
from server.services import life


def reset(dataset_id: int, *, take_files: bool = False, fence: int | None = None) -> Dataset:
    """Make the dataset unprocessed again, whatever it was. Its history stays; a run that is going on has lost it.

    With `take_files` the next run starts from the files that lie in the storage then, whatever earlier runs published
    or left there; without, from what the last commit says. `fence` is the one that the caller decided by. Raises
    Refused: 404 when there is no such dataset, 409 `changed` when it has another fence by now.
    """
    with transaction.atomic():
        dataset = life.locked_row(dataset_id)
        if fence is not None and fence != dataset.fence:
            raise Refused("Someone claimed or reset the dataset meanwhile. Look at it again.", 409, "changed")
        life.end_claim(dataset.claim, ClaimEnd.RESET)
        after = dataset.fence + 1
        # Attempts up to the fence of a commit are history, also of one without a manifest.
        forget = {"manifest_sha256": "", "manifest_fence": after} if take_files else {}
        Dataset.objects.filter(pk=dataset.pk).update(
            state=DatasetState.UNPROCESSED.value, fence=after, attempt=0, **life.NO_LEASE, **forget
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
