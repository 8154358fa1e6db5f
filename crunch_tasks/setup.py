"""Stage 1, Setup: the dataset's files into the workspace, verified, and what the run must remember about them."""

from __future__ import annotations

import hashlib
import json

from prefect.logging import get_run_logger

from crunch_tasks.compute.script import interpreter
from crunch_tasks.contract import DATASET_JSON, PROJECT_JSON, SETUP_MANIFEST, WORKFLOW_FILE, Stage, WorkflowType
from crunch_tasks.crash import Point, reached
from crunch_tasks.errors import ObjectMissing, WorkflowFailed
from crunch_tasks.files import publication, saved_work
from crunch_tasks.files.checksums import fingerprint
from crunch_tasks.files.manifest import Manifest, SavedWork
from crunch_tasks.files.plan import Inputs
from crunch_tasks.link.web import fetch_workflow
from crunch_tasks.manifests import manifest_of
from crunch_tasks.restoring import restore_inputs
from crunch_tasks.run import DatasetRun, Journal
from crunch_tasks.stages import RETRIES, stage

SHOWN = 5
"""How many names a remark lists."""


@stage(Stage.SETUP, retries=RETRIES)
def setup(run: DatasetRun) -> None:
    """Bring the workspace to the dataset's inputs, or leave it as an earlier run left it when only Upload is missing.

    | the earlier run here                        | script               | Snakemake                             |
    |---------------------------------------------|----------------------|---------------------------------------|
    | none, or from other inputs or workflow      | inputs alone         | inputs, and what was saved            |
    | same start, died in the workflow:           |                      |                                       |
    | - all inputs as they were                   | inputs alone         | what was whole is kept                |
    | - an input changed or gone                  | inputs alone         | inputs, and what was saved            |
    | same start, workflow done, died in Upload:  |                      |                                       |
    | - no file of the workspace touched since    | kept for Upload      | kept for Upload                       |
    | - otherwise                                 | inputs alone         | inputs, and what was saved            |

    What was saved: the whole files of an attempt from the same start that was told to stop on another machine. Where
    there is both, the later attempt's is taken.
    """
    run.lease.check()
    workflow = _workflow(run)
    if run.options.upload:
        run.storage.check_overwrites(run.prefix)
    run.inputs = _inputs(run)
    reached(Point.INPUTS_RESOLVED)
    run.remarks = _left_out(run.inputs)
    sha256 = hashlib.sha256(workflow).hexdigest()
    start = Journal(inputs=_digest(run), workflow=f"{run.workflow_type}:{sha256}", fence=run.claim.fence)
    earlier = run.journal()
    if _only_upload_is_missing(run, earlier, start):
        get_run_logger().info("The workflow ended here before: only Upload is missing")
        return
    is_here = earlier.same_start(start) and not earlier.workflow_done and _inputs_are_untouched(run)
    saved = _saved_elsewhere(run, start, earlier.fence if is_here else 0)
    if is_here and saved is None:
        run.keep_journal(start)
    else:
        # Killed from here on, what is still here must not be taken for finished work of this start.
        run.forget_journal()
    if run.options.download:
        run.room(run.input_bytes)
        is_kept = run.workflow_type is WorkflowType.SNAKEMAKE and is_here and saved is None
        walk = restore_inputs(run, saved, keep_outputs=is_kept)
    else:
        walk = run.workspace.walk()
    found = manifest_of(run, walk)
    if run.options.download:
        # What a Snakemake run before finished is no input.
        found = Manifest({path: found[path] for path in run.inputs.files})
    _write_own_files(run, workflow, found)
    run.setup_manifest = found
    run.keep_setup_manifest(found)
    run.keep_journal(start)


def _only_upload_is_missing(run: DatasetRun, earlier: Journal, start: Journal) -> bool:
    """Whether an earlier run's workflow ended well here, from the same start, and left what is here now.

    Scratch disks are purged: a workspace that lost a file must not be published as the result.
    """
    if not earlier.workflow_done or not earlier.same_start(start) or not run.may_resume:
        return False
    kept = run.kept_setup_manifest()
    if kept is None or fingerprint(run.workspace.walk()) != earlier.workspace:
        return False
    run.setup_manifest = kept
    return True


def _inputs_are_untouched(run: DatasetRun) -> bool:
    kept = run.kept_setup_manifest()
    return kept is not None and saved_work.are_untouched(kept, run.workspace.walk())


def _saved_elsewhere(run: DatasetRun, start: Journal, fence_here: int) -> SavedWork | None:
    """What an attempt after `fence_here` from the same start saved when it was stopped."""
    if run.workflow_type is not WorkflowType.SNAKEMAKE or not run.may_resume or not run.options.download:
        return None
    return saved_work.find(run.storage, run.prefix, start.start, after=max(run.committed_fence, fence_here))


def _left_out(inputs: Inputs) -> list[str]:
    """What lies in the storage and is no input, for the person who put it there to know."""
    kinds = (
        ("an earlier run deleted it", sorted(inputs.deleted)),
        ("an attempt that was not committed left it", list(inputs.ignored)),
    )
    return [
        f"{len(paths)} files in the storage are no inputs, as {why}: {', '.join(map(repr, paths[:SHOWN]))}"
        + (" ..." if len(paths) > SHOWN else "")
        for why, paths in kinds
        if paths
    ]


def _workflow(run: DatasetRun) -> bytes:
    """The script or Snakefile, byte for byte. Raises WorkflowFailed when it can be seen already that it cannot run."""
    if run.options.path is not None:
        content = run.options.path.read_bytes()
    else:
        text = run.claim.workflow
        is_address = text.startswith(("http://", "https://")) and len(text.split()) == 1
        content = fetch_workflow(text.strip()) if is_address else text.encode()
    if not content.strip():
        slug = run.claim.project["slug"]
        raise WorkflowFailed(f"The project {slug} has no workflow. Give it one on its page, or run with --path FILE.")
    if run.workflow_type is WorkflowType.SCRIPT:
        interpreter(content)
    return content


def _inputs(run: DatasetRun) -> Inputs:
    dataset = run.claim.dataset
    inputs = publication.inputs(
        run.storage, run.prefix, str(dataset["manifest_sha256"]), run.committed_fence, check=run.lease.check
    )
    if not inputs.files and run.options.download and not run.options.allow_empty:
        raise ObjectMissing(
            f"There are no files under {run.prefix!r} in {run.storage.description}. Put the dataset's files there, "
            "or run it with --allow-empty."
        )
    return inputs


def _write_own_files(run: DatasetRun, workflow: bytes, initial: Manifest) -> None:
    """What `.crunch/` holds from the start; the setup manifest last, for it says that Setup is complete."""
    # Without the time of the claim: what a workflow makes of the file is still right when the dataset is claimed again.
    dataset = {name: value for name, value in run.claim.dataset.items() if name != "updated"}
    for path, body in ((DATASET_JSON, dataset), (PROJECT_JSON, run.claim.project)):
        run.workspace.write(path, json.dumps(body, ensure_ascii=False, indent=2).encode())
    run.workspace.write(WORKFLOW_FILE[run.workflow_type], workflow)
    run.workspace.write(SETUP_MANIFEST, initial.checksums_json())


def _digest(run: DatasetRun) -> str:
    """The same as long as the inputs are, and whether they are fetched: path, size and version of each, or its MD5
    where versions are not told.

    In this order: an attempt's plan may tell the MD5 of an object that had none before, and that is no change.
    """
    rows = [(path, source.size, source.tag or source.md5) for path, source in sorted(run.inputs.files.items())]
    return hashlib.sha256(json.dumps([run.committed_fence, run.options.download, rows]).encode()).hexdigest()
