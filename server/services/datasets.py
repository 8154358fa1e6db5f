"""What a person decides about datasets: process them once more, cancel, hold, let go.

`retry` is for people and refuses what is being processed; `reset` takes the dataset from whoever has it.
"""

from __future__ import annotations

from django.contrib.auth.models import User
from django.db import transaction

from crunch_tasks.contract import DatasetState
from crunch_tasks.errors import Refused
from server.models import Claim, Dataset, Project
from server.models.claims import ClaimEnd
from server.services import bulk, claims, life
from server.services.bulk import Outcome
from server.services.selection import Selection

NO_RUN = "There is no run to cancel (any more)."


def retry(dataset_id: int, *, take_files: bool = False, fence: int | None = None, dry_run: bool = False) -> Outcome:
    """Make a dataset that nobody processes unprocessed again; one that is so already is left as it is.

    `take_files` is that of `reset`, `fence` the one that the caller decided by. Raises Refused: 404 when there is no
    such dataset, 409 `running`, and 409 `changed` when it has another fence by now.
    """
    with transaction.atomic():
        dataset = life.locked_row(dataset_id)
        if is_running(dataset):
            raise Refused(f"{dataset.slug} is being processed. Cancel its run on its page first.", 409, "running")
        if fence is not None and fence != dataset.fence:
            raise Refused("Someone claimed or reset the dataset meanwhile. Look at it again.", 409, "changed")
        if dataset.state == DatasetState.UNPROCESSED.value:
            return Outcome(held=int(dataset.locked))
        if not dry_run:
            _start_over(dataset, take_files)
    return Outcome(1, [dataset.slug], int(dataset.locked))


def retry_failed(project: Project, *, dry_run: bool = False) -> Outcome:
    """Make all failed datasets of the project unprocessed again."""
    return bulk.perform(Selection(project), bulk.Operation.RETRY, dry_run=dry_run)


def is_running(dataset: Dataset) -> bool:
    """Whether the dataset has a run that can be cancelled. An old client's, without a claim, cannot."""
    return dataset.state == DatasetState.RUNNING.value and dataset.claim_id is not None


def cancel(user: User, dataset: Dataset) -> Claim:
    """A person's wish that the dataset's run ends, as `claims.cancel` has it. Raises Refused: 409 `claim_ended`."""
    if dataset.claim_id is None or not is_running(dataset):
        raise Refused(NO_RUN, 409, "claim_ended")
    return claims.cancel(user, dataset.claim_id)


def reset(dataset_id: int, *, take_files: bool = False) -> Dataset:
    """Make the dataset unprocessed again, whatever it was. Its history stays; a run that is going on has lost it.

    With `take_files` the next run starts from the files that lie in the storage then, whatever earlier runs published
    or left there; without, from what the last commit says. Raises Refused: 404 when there is no such dataset.
    """
    with transaction.atomic():
        _start_over(life.locked_row(dataset_id), take_files)
    return Dataset.objects.get(pk=dataset_id)


def _start_over(dataset: Dataset, take_files: bool) -> None:
    life.end_claim(dataset.claim, ClaimEnd.RESET)
    after = dataset.fence + 1
    # Attempts up to the fence of a commit are history, also of one without a manifest.
    forget = {"manifest_sha256": "", "manifest_fence": after} if take_files else {}
    Dataset.objects.filter(pk=dataset.pk).update(fence=after, **life.start_over(), **forget)


def set_pause(project: Project, paused: bool) -> None:
    """Let nobody claim the project's datasets, or let them again. Runs that are going on are not touched."""
    Project.objects.filter(pk=project.pk).update(paused=paused)


def set_hold(dataset_id: int, locked: bool) -> None:
    """Hold the dataset, so that nobody claims it, or let it go. A run that is going on is not touched."""
    Dataset.objects.filter(pk=dataset_id).update(locked=locked)
