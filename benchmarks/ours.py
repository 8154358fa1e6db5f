"""Stages of a real run, measured in a process of their own: `python -m benchmarks.ours WAY STORAGE DIRECTORY`.

WAY is `up` (Upload of all files in the workspace), `down` (Setup into an empty one), `unchanged` (Setup and Upload
where nothing changed since the last commit) or `look` (one listing, one walk of the workspace). Each stage is its task
in a Prefect flow, with a lease on a dataset of the server in memory: all that it does (listing, MD5, verification,
manifests, bringing the disk up to date), and nothing of imports, of the claim and of the workflow.
"""

from __future__ import annotations

import gc
import json
import sys
from pathlib import Path
from typing import Any

from prefect import flow
from prefect.settings import PREFECT_FLOWS_HEARTBEAT_FREQUENCY, temporary_settings

from benchmarks.measure import Measured, part, tell
from crunch_tasks.errors import CrunchError
from crunch_tasks.files import publication
from crunch_tasks.files.opening import open_storage
from crunch_tasks.files.workspace import Workspace
from crunch_tasks.link.claims import Claims
from crunch_tasks.link.outbox import Outbox
from crunch_tasks.run import DatasetRun
from crunch_tasks.settings import RunOptions
from crunch_tasks.setup import setup
from crunch_tasks.testing import FakeServer
from crunch_tasks.upload import upload

SLUG = "p:d"
COMMIT = "commit.json"
"""In the directory: what the last `up` there published, for `down` and `unchanged` to start from."""


def make_run(storage: dict[str, Any], directory: Path, commit: dict[str, Any]) -> DatasetRun:
    """A run of the dataset, its fence after that of the commit."""
    server = FakeServer()
    server.add_project("p")
    server.add_dataset("p", "d", fence=commit["manifest_fence"], **commit)
    lease = Claims(directory, server.url).new(dataset=SLUG).send(server.client())
    if lease is None:
        raise CrunchError("the server in memory gave no claim")
    workspace = Workspace(directory, SLUG)
    return DatasetRun(
        claim=lease.claim,
        lease=lease,
        outbox=Outbox(workspace.state),
        storage=open_storage(storage),
        workspace=workspace,
        options=RunOptions(allow_empty=True),
        secrets=[],
        page_url="",
        tell=lambda _: None,
    )


def measure(way: str, run: DatasetRun) -> Measured:
    """Raises what the stages raise."""
    measured: list[Measured] = []

    @flow(name="bench", persist_result=False)
    def stages() -> None:
        if way == "down":
            measured.append(part(lambda: setup(run)))
        elif way == "unchanged":
            measured.append(part(lambda: (setup(run), upload(run))))
        elif way == "look":
            measured.append(part(lambda: (list(run.storage.list_objects(run.prefix)), run.workspace.walk())))
        else:
            # As if the workflow had made all files after an empty Setup.
            made = run.workspace.root.rename(run.workspace.root.with_name("made"))
            run.workspace.make()
            setup(run)
            for entry in made.iterdir():
                entry.rename(run.workspace.root / entry.name)
            measured.append(part(lambda: upload(run)))

    with temporary_settings({PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}), run.lease, run.workspace.lock():
        stages()
    return measured[0]


def main(way: str, storage: str, directory: str) -> None:
    commit = Path(directory) / COMMIT
    before = json.loads(commit.read_bytes()) if commit.exists() else {"manifest_sha256": "", "manifest_fence": 0}
    # As `flows.session` does.
    gc.freeze()
    run = make_run(json.loads(storage), Path(directory), before)
    measured = measure(way, run)
    if run.manifest_sha256:
        publication.promote(run.storage, run.prefix, run.claim.fence, run.manifest_sha256)
        commit.write_text(json.dumps({"manifest_sha256": run.manifest_sha256, "manifest_fence": run.claim.fence}))
    tell(measured)


if __name__ == "__main__":
    main(*sys.argv[1:])
