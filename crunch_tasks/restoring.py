"""A workspace brought back to its inputs, with what an earlier attempt from the same start had finished."""

from __future__ import annotations

import functools

from prefect.logging import get_run_logger

from crunch_tasks.compute.snakemake import job_spans, whole_before
from crunch_tasks.contract import WorkflowType
from crunch_tasks.crash import Point, reached
from crunch_tasks.errors import StorageError
from crunch_tasks.files import own_files, saved_work
from crunch_tasks.files.download import download
from crunch_tasks.files.manifest import SavedWork
from crunch_tasks.files.walking import Walk
from crunch_tasks.run import DatasetRun


def restore_inputs(run: DatasetRun, saved: SavedWork | None, *, keep_outputs: bool) -> Walk:
    """Bring the inputs here, and what is `saved`, or keep what was whole when Snakemake ended here; nothing else stays.

    Returns what the workspace has then.
    """
    kept = _whole_here(run) if keep_outputs else set[str]()
    run.workspace.remove_leftovers({*run.inputs.files, *kept})
    if not keep_outputs:
        run.snakemake_events.unlink(missing_ok=True)
    run.is_continued = bool(kept)
    moved = download(run.storage, run.inputs.files, run.workspace, check=run.lease.check, progress=run.transferred)
    run.downloaded += moved.moved
    reached(Point.INPUTS_PLACED)
    if saved is not None and (walk := _fetch_saved(run, saved)) is not None:
        run.is_continued = True
        return walk
    if run.workflow_type is WorkflowType.SNAKEMAKE and run.claim.dataset.get("manifest_sha256"):
        fence = int(run.claim.dataset["manifest_fence"])
        own_files.fetch_snakemake(run.storage, run.prefix, fence, run.workspace, check=run.lease.check)
    get_run_logger().info(
        "%d files fetched (%d bytes) into %s, %d were right already",
        moved.moved,
        moved.bytes,
        run.workspace.root,
        moved.skipped,
    )
    return moved.walk


def _fetch_saved(run: DatasetRun, saved: SavedWork) -> Walk | None:
    """Bring here what a stopped attempt had finished; None, and nothing of it here, when it is not all there."""
    sources = saved_work.sources(saved, run.prefix)
    try:
        moved = download(run.storage, sources, run.workspace, check=run.lease.check, progress=run.transferred)
        reached(Point.SAVED_WORK_FETCHED)
        own_files.fetch_snakemake(run.storage, run.prefix, saved.fence, run.workspace, check=run.lease.check)
    except StorageError as error:
        get_run_logger().warning("What the attempt %d saved is of no use: %s", saved.fence, error)
        run.workspace.remove_leftovers(run.inputs.files.keys())
        return None
    run.downloaded += moved.moved
    get_run_logger().info("%d files that an earlier attempt had finished are here", len(sources))
    return moved.walk


def _whole_here(run: DatasetRun) -> set[str]:
    """The files of the workspace, but for inputs, that were whole when its last Snakemake ended."""
    whole = functools.partial(whole_before, job_spans(run.snakemake_events))
    return saved_work.finished(run.workspace, run.workspace.walk(), whole) - run.inputs.files.keys()
