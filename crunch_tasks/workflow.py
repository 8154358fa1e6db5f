"""Stage 2, Workflow: run the project's script or Snakefile in the workspace, as processes that end with the run."""

from __future__ import annotations

import contextlib
import functools
import os
import time
from dataclasses import replace
from pathlib import Path

from prefect.logging import get_logger, get_run_logger

from crunch_tasks.compute.environment import workflow_environment
from crunch_tasks.compute.live import live_tail
from crunch_tasks.compute.script import run_script
from crunch_tasks.compute.snakemake import job_spans, run_snakemake, whole_before
from crunch_tasks.contract import WORKFLOW_FILE, WORKFLOW_LOG, Stage, WorkflowType
from crunch_tasks.crash import Point, reached
from crunch_tasks.errors import Cancelled, CrunchError, LeaseLost, Stopped, WorkflowFailed
from crunch_tasks.files import own_files, saved_work, tree
from crunch_tasks.files.checksums import fingerprint
from crunch_tasks.files.disk import low_disk, refuse_low_disk, reserved, with_looks
from crunch_tasks.files.parallel import Check
from crunch_tasks.restoring import restore_inputs
from crunch_tasks.run import DatasetRun
from crunch_tasks.stages import stage


@stage(Stage.WORKFLOW)
def workflow(run: DatasetRun) -> None:
    """Run the workflow; in a workspace where it ended well before and only Upload was missing, there is nothing to do.

    Raises WorkflowFailed, or WorkspaceError when the disk is fuller than it may be; the message is the Fail's note.
    """
    run.remarks = []
    journal = run.journal()
    if journal.workflow_done:
        return
    run.log.unlink(missing_ok=True)
    try:
        with reserved(run.workspace.state), run.lease.showing(functools.partial(live_tail, run.log, run.secrets)):
            _run_to_its_end(run, with_looks(run.lease.check, run.workspace.root, run.workspace.low_water))
    except Exception:
        run.turn_over()
        _save_log(run)
        raise
    # The next one begins to compute while this one is written down.
    run.turn_over()
    _keep_log(run)
    reached(Point.WORKFLOW_ENDED)
    if run.may_resume:
        run.keep_journal(replace(journal, workflow_done=True, workspace=fingerprint(run.workspace.walk())))


def _run_to_its_end(run: DatasetRun, check: Check) -> None:
    """A Fail is of a run from the inputs alone: one that went on from earlier work and failed starts over, once."""
    try:
        _run_it(run, check)
        return
    except WorkflowFailed as error:
        if not run.is_continued:
            raise
        get_run_logger().warning("It went on from what an earlier attempt had finished, and failed: %s", error)
    restore_inputs(run, None, keep_outputs=False)
    _run_it(run, check)


def _keep_log(run: DatasetRun) -> None:
    """The log moves to where it is published from, once the workflow cannot reach it any more."""
    if run.log.exists():
        tree.place(run.workspace.root, run.log, WORKFLOW_LOG)


def _save_log(run: DatasetRun) -> None:
    """Keep a failed run's log in the storage, if that works at once: what matters is why it failed."""
    try:
        _keep_log(run)
        own_files.save_logs(
            run.storage, run.prefix, run.workspace, run.claim.fence, may_write=functools.partial(_may_write_now, run)
        )
    except Stopped:
        # What ran is run again.
        return
    except (CrunchError, OSError) as error:
        get_run_logger().warning("The workflow's log is not in the storage: %s", error)


def _may_write_now(run: DatasetRun, timeout_s: float) -> None:
    """Raises LeaseLost unless a write may begin at once; who waits for a renewal has the time, and these have not."""
    # A cancelled run keeps its lease until its Fail is delivered.
    with contextlib.suppress(Cancelled):
        run.lease.check()
    if run.lease.remaining_s() < timeout_s:
        raise LeaseLost


def save_finished(run: DatasetRun, until: float) -> int:
    """Save what a stopped Snakemake workflow had finished, so that an attempt anywhere goes on from there.

    Takes until `until` (time.monotonic) at most, and returns how many files are saved: 0 where there is nothing to be
    saved, or the storage does not take it. Of a script nobody knows what it had finished.
    """
    is_resumable = run.workflow_type is WorkflowType.SNAKEMAKE and run.may_resume and run.options.download
    if not is_resumable or run.stage is Stage.SETUP:
        return 0

    def check() -> None:
        if time.monotonic() > until:
            raise saved_work.TimeIsUpError

    try:
        saved = saved_work.save(
            run.storage,
            run.prefix,
            run.workspace,
            fence=run.claim.fence,
            start=run.journal().start,
            inputs=run.setup_manifest,
            whole_before=functools.partial(whole_before, job_spans(run.snakemake_events)),
            may_write=functools.partial(_may_write_now, run),
            check=check,
        )
    except (CrunchError, OSError) as error:
        get_logger("crunch").warning("What the workflow had finished is not saved: %s", error)
        return 0
    return len(saved.files) if saved else 0


def _run_it(run: DatasetRun, check: Check) -> None:
    """Run the workflow to its end and look at the disk once more: most of it may have been written in the last second.

    A failure on a disk without room says so too.
    """
    try:
        _run_processes(run, check)
    except WorkflowFailed as error:
        problem = low_disk(run.workspace.root, run.workspace.low_water)
        if problem:
            raise WorkflowFailed(f"{error}\n{problem}") from error
        raise
    refuse_low_disk(run.workspace.root, run.workspace.low_water)


def _run_processes(run: DatasetRun, check: Check) -> None:
    environment = workflow_environment(
        os.environ,
        dataset=run.claim.slug,
        project=str(run.claim.project["slug"]),
        workspace=run.workspace.mark,
        cores=run.options.processors,
        secrets=run.secrets,
    )
    timeout_s = run.claim.project.get("workflow_timeout_s")
    file: Path = run.options.path or run.workspace.root / WORKFLOW_FILE[run.workflow_type]
    if run.workflow_type is WorkflowType.SCRIPT:
        run_script(
            file,
            directory=run.workspace.root,
            env=environment,
            log=run.log,
            timeout_s=timeout_s,
            check=check,
        )
        return
    run_snakemake(
        file,
        directory=run.workspace.root,
        cores=run.options.processors,
        env=environment,
        log=run.log,
        events=run.snakemake_events,
        timeout_s=timeout_s,
        check=check,
        progress=run.progress,
    )
