"""A dataset's run without server and storage, and what it tells of its stages."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

from crunch_tasks.contract import Claim, Stage, State, WorkflowType
from crunch_tasks.files.workspace import Workspace
from crunch_tasks.link.outbox import Outbox
from crunch_tasks.run import DatasetRun
from crunch_tasks.settings import RunOptions
from crunch_tasks.testing import MemoryStorage

CLAIM = Claim(
    claim=7,
    fence=3,
    ttl_s=60,
    heartbeat_s=20,
    site="site",
    dataset={"id": 1, "slug": "p:d", "base_file_path": "p/d", "manifest_sha256": "", "manifest_fence": 0},
    project={"slug": "p"},
    workflow="true\n",
    workflow_type=WorkflowType.SCRIPT,
    workflow_sha256="",
)


def lone_run(folder: Path) -> DatasetRun:
    """A run with a real workspace and outbox; its lease and storage are not used."""
    workspace = Workspace(folder / "work", "p:d")
    lease: Any = SimpleNamespace(progress=lambda _: None, check=lambda: None)
    return DatasetRun(
        claim=CLAIM,
        lease=lease,
        outbox=Outbox(workspace.state),
        storage=MemoryStorage(),
        workspace=workspace,
        options=RunOptions(),
        secrets=[],
        page_url="",
        tell=lambda _: None,
    )


def told(run: DatasetRun) -> list[tuple[Stage, State, str]]:
    return [(kept.event.stage, kept.event.state, kept.event.note) for kept in run.outbox.pending()]
