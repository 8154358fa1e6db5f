"""What Setup and Workflow do with what earlier runs left in a workspace, with a storage in memory."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from prefect.logging import disable_run_logger

from crunch_tasks import restoring, setup, workflow
from crunch_tasks.contract import Claim, WorkflowType
from crunch_tasks.errors import StorageError, WorkflowFailed
from crunch_tasks.files.checksums import compute_manifest
from crunch_tasks.files.workspace import Workspace
from crunch_tasks.link.outbox import Outbox
from crunch_tasks.run import DatasetRun
from crunch_tasks.settings import RunOptions
from crunch_tasks.testing import MemoryStorage

COUNT = "#!/bin/bash\necho ran >> {log}\ncat input > output\n"


@pytest.fixture(autouse=True)
def outside_prefect(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    def manifest_of(run: DatasetRun, walk: Any) -> Any:
        return compute_manifest(run.workspace.root, walk, run.workspace.hashes)

    monkeypatch.setattr(setup, "manifest_of", manifest_of)
    with disable_run_logger():
        yield


@pytest.fixture
def storage() -> MemoryStorage:
    storage = MemoryStorage()
    storage.write("p/d/input", b"original")
    return storage


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "runs"


class Runs:
    """One run after another in one directory, each stopped before Upload."""

    def __init__(self, storage: MemoryStorage, directory: Path, text: str) -> None:
        self.storage = storage
        self.directory = directory
        self.text = text
        self.fence = 0
        self.manifest_fence = 0

    def __call__(self, **options: Any) -> DatasetRun:
        self.fence += 1
        workspace = Workspace(self.directory, "p:d")
        workspace.make()
        dataset = {
            "id": 1,
            "slug": "p:d",
            "base_file_path": "p/d",
            "manifest_sha256": "",
            "manifest_fence": self.manifest_fence,
        }
        claim = Claim(
            claim=self.fence,
            fence=self.fence,
            ttl_s=60,
            heartbeat_s=20,
            site="site",
            dataset=dataset,
            project={"slug": "p"},
            workflow=self.text,
            workflow_type=WorkflowType.SCRIPT,
            workflow_sha256="",
        )
        lease: Any = SimpleNamespace(
            showing=lambda _output: nullcontext(),
            progress=lambda _: None,
            check=lambda: None,
            may_write=lambda _: None,
            remaining_s=lambda: 60.0,
        )
        run = DatasetRun(
            claim=claim,
            lease=lease,
            outbox=Outbox(workspace.state),
            storage=self.storage,
            workspace=workspace,
            options=RunOptions(**options),
            secrets=[],
            page_url="",
            tell=lambda _: None,
        )
        for stage in (setup.setup, workflow.workflow):
            stage.fn(run)
            if run.error is not None:
                raise run.error
        return run


@pytest.fixture
def runs(storage: MemoryStorage, tmp_path: Path, log: Path) -> Runs:
    return Runs(storage, tmp_path / "work", COUNT.format(log=log))


def times(log: Path) -> int:
    return len(log.read_text().splitlines())


def test_a_workflow_that_ended_well_is_not_run_again_only_to_upload(runs: Runs, log: Path) -> None:
    runs()
    again = runs()
    assert times(log) == 1
    assert (again.workspace.root / "output").read_bytes() == b"original"


@pytest.mark.parametrize("lost", ["output", "input"])
def test_a_workspace_that_lost_a_file_since_is_made_anew(runs: Runs, log: Path, lost: str) -> None:
    (runs().workspace.root / lost).unlink()
    again = runs()
    assert times(log) == 2
    assert {path.name: path.read_bytes() for path in again.workspace.root.iterdir() if path.is_file()} == {
        "input": b"original",
        "output": b"original",
    }


def test_other_inputs_or_another_workflow_start_anew_without_leftovers(
    runs: Runs, storage: MemoryStorage, log: Path
) -> None:
    root = runs().workspace.root
    storage.write("p/d/input", b"replaced by a person")
    runs()
    assert (times(log), (root / "output").read_bytes()) == (2, b"replaced by a person")
    runs.text = f"#!/bin/bash\necho ran >> {log}\ncat input > other\n"
    runs()
    assert times(log) == 3
    assert not (root / "output").exists()


def test_a_commit_in_between_starts_anew(runs: Runs, log: Path) -> None:
    """Or else a workflow that changes no file would never run again here."""
    runs()
    runs.manifest_fence = runs.fence
    runs()
    assert times(log) == 2


def test_a_kill_in_setup_leaves_no_finished_work_of_another_start(
    runs: Runs, storage: MemoryStorage, log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = runs().workspace.root
    runs.text = f"#!/bin/bash\necho ran >> {log}\ntrue\n"

    class Killed(BaseException):
        pass

    def killed(*_: object, **__: object) -> None:
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(restoring, "download", killed)
        patched.setattr(Workspace, "remove_leftovers", killed)
        with pytest.raises(Killed):
            runs()
    runs()
    assert not (root / "output").exists()


def test_trying_a_workflow_out_runs_it_each_time(runs: Runs, log: Path, tmp_path: Path) -> None:
    runs(upload=False)
    runs(upload=False)
    assert times(log) == 2
    own = tmp_path / "own.sh"
    own.write_text(COUNT.format(log=log))
    runs(path=own)
    runs(path=own)
    assert times(log) == 4


def test_a_failure_is_told_also_when_its_log_cannot_be_kept(runs: Runs, storage: MemoryStorage) -> None:
    runs.text = "#!/bin/bash\necho the reason >&2\nexit 7\n"

    def refuse(*_: object, **__: object) -> None:
        raise StorageError("the storage is away")

    storage.send = refuse  # type: ignore[method-assign]
    with pytest.raises(WorkflowFailed, match="exit code 7"):
        runs()


def test_what_is_no_input_is_said(runs: Runs, storage: MemoryStorage) -> None:
    first = runs()
    inputs = replace(first.inputs, ignored=("left/behind",), deleted=frozenset({"gone"}))
    said = "\n".join(setup._left_out(inputs))
    assert "'left/behind'" in said and "not committed" in said
    assert "'gone'" in said and "deleted it" in said
    assert setup._left_out(first.inputs) == []
