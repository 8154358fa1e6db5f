"""Stage 3, Upload: what is new or changed, into the storage, verified; the server's yes to its manifest commits it."""

from __future__ import annotations

from prefect.logging import get_run_logger

from crunch_tasks.contract import WORKFLOW_FILE, Stage
from crunch_tasks.files import publication
from crunch_tasks.manifests import manifest_of
from crunch_tasks.run import DatasetRun
from crunch_tasks.stages import RETRIES, stage


@stage(Stage.UPLOAD, retries=RETRIES)
def upload(run: DatasetRun) -> None:
    """Publish the workspace. Its success, recorded with the manifest's SHA-256, is what the server commits."""
    run.lease.check()
    # The answer comes while the files are sent.
    run.lease.renew()
    walk = run.workspace.walk()
    run.remarks = [
        *(f"Not uploaded: {sentence}" for sentence in walk.refused),
        *(f"The workflow changed {path}; Crunch kept its own copy." for path in run.workspace.tampered()),
    ]
    published = publication.publish(
        run.storage,
        run.prefix,
        run.workspace,
        fence=run.claim.fence,
        dataset_id=run.dataset_id,
        setup=run.setup_manifest,
        inputs=run.inputs,
        fetched=run.options.download,
        walk=walk,
        manifest_of=lambda walk: manifest_of(run, walk),
        workflow_file=WORKFLOW_FILE[run.workflow_type],
        may_write=run.lease.may_write,
        check=run.lease.check,
        progress=run.transferred,
    )
    run.final_manifest = published.final
    run.lease.confirm()
    run.uploaded += published.sent
    get_run_logger().info(
        "%d files sent (%d bytes), %d were in the storage already", published.sent, published.bytes, published.present
    )
    for remark in run.remarks:
        get_run_logger().warning("%s", remark)
    run.manifest_sha256 = published.sha256
