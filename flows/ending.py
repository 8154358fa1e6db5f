"""What becomes of a run when its flow is over, or is stopped: the last statuses, the commit, the promotion."""

from __future__ import annotations

import time
from collections.abc import Sequence
from uuid import UUID

from crunch_tasks.contract import Stage, State
from crunch_tasks.crash import Point, reached
from crunch_tasks.errors import Cancelled, LeaseLost, StorageError, Unauthorized
from crunch_tasks.files import publication
from crunch_tasks.hooks import note_of
from crunch_tasks.link.lease import RELEASE_PATIENCE_S
from crunch_tasks.link.outbox import Place
from crunch_tasks.link.sender import Sender
from crunch_tasks.run import DatasetRun, Result
from crunch_tasks.stopping import LAST_WORD_S, seconds_left
from crunch_tasks.workflow import save_finished
from flows.watch import CANCELLED, is_cancelled

WAITING = "Its last updates are kept; the next command with this --directory sends them."


def ended(run: DatasetRun, sender: Sender, patience_s: float) -> tuple[Result, str]:
    """What became of a run whose flow is over, and the note on it, with every status delivered that can be.

    Raises Unauthorized when the token is refused: the next command in this directory goes on with the run.
    """
    error = run.error
    if isinstance(error, Unauthorized):
        raise error
    if isinstance(error, LeaseLost):
        return Result.LEASE_LOST, str(error)
    if error is None and not run.options.upload:
        run.lease.release("run without upload")
        return Result.RELEASED, f"Its results stay in {run.workspace.root}"
    _make_up_for_hooks(run)
    undelivered = sender.flush(patience_s)
    if undelivered:
        return Result.UNDELIVERED, f"The server does not answer. {WAITING}"
    if error is not None:
        return Result.CANCELLED if isinstance(error, Cancelled) else Result.FAILED, note_of(error)
    return _committed(run)


def stopped(run: DatasetRun, sender: Sender, flow_runs: Sequence[UUID], stop: BaseException) -> str:
    """Stopped from outside: a person's cancel in Prefect fails the stage, all else gives the dataset back.

    Returns what became of it, in a sentence. A run that had come to its end already keeps it, also if the server
    cannot be told now. What Snakemake had finished is saved first, as long as there is time.
    """
    saved = 0
    if not _has_ended(run):
        if is_cancelled(flow_runs):
            run.record(run.stage, State.FAIL, CANCELLED)
        else:
            saved = save_finished(run, time.monotonic() + seconds_left() - LAST_WORD_S)
    undelivered = sender.flush(LAST_WORD_S - RELEASE_PATIENCE_S)
    slug = run.claim.slug
    if _has_ended(run):
        # Of what is committed some files may not have their names yet: the next command here sees to that.
        run.lease.stop(ended=not undelivered and not _has_succeeded(run))
        return f"{slug} had come to its end." + (f" {WAITING}" if undelivered else "")
    kept = f" {saved} finished files are saved: the next attempt goes on from them, on any machine." if saved else ""
    if run.lease.release(f"stopped by {type(stop).__name__}"):
        reached(Point.RELEASED)
        return f"{slug} was given back.{kept}"
    return (
        f"{slug} could not be given back, as the server does not answer: the next command with this --directory, such "
        f"as `crunch sync`, does.{kept}"
    )


def _make_up_for_hooks(run: DatasetRun) -> None:
    """Record what a hook could not (Prefect swallows what hooks raise); the outbox keeps one event of each kind."""
    if run.error is not None:
        run.record(run.stage, State.FAIL, note_of(run.error))
        return
    for stage in Stage:
        for state in (State.START, State.SUCCESS):
            run.record(stage, state)


def _has_ended(run: DatasetRun) -> bool:
    """Whether the run's last word is written down: Upload Success, or some stage's Fail."""
    find, fence = run.outbox.find, run.claim.fence
    return _has_succeeded(run) or any(find(fence, stage, State.FAIL) is not None for stage in Stage)


def _has_succeeded(run: DatasetRun) -> bool:
    return run.outbox.find(run.claim.fence, Stage.UPLOAD, State.SUCCESS) is not None


def _committed(run: DatasetRun) -> tuple[Result, str]:
    answer = run.outbox.find(run.claim.fence, Stage.UPLOAD, State.SUCCESS)
    ours = answer is not None and answer.event.manifest_sha256 == run.manifest_sha256
    if answer is None or not ours or answer.place is not Place.SENT or not answer.effective:
        reason = answer.reason if answer is not None else ""
        return Result.LEASE_LOST, f"The server did not take the results: {reason or 'the lease was lost'}."
    run.is_unpromoted = True
    reached(Point.COMMITTED)
    run.forget_journal()
    try:
        publication.promote(run.storage, run.prefix, run.claim.fence, run.manifest_sha256)
        reached(Point.PROMOTED)
        run.is_unpromoted = False
        run.workspace.is_settled = True
    except StorageError as problem:
        # The results are committed. The next command here, or whoever reads the dataset, moves the rest to its place.
        run.remarks.append(f"Some modified files are not at their own names yet: {problem}")
    return Result.COMPLETED, "\n".join(run.remarks)
