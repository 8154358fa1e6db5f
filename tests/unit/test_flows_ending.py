"""A run that is stopped from outside: given back while it is under way, left to its end once that is written down."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from crunch_tasks.contract import Stage, State, WorkflowType
from crunch_tasks.errors import StorageError
from crunch_tasks.files.workspace import Workspace
from crunch_tasks.link.outbox import Outbox
from crunch_tasks.run import Result
from crunch_tasks.settings import RunOptions
from flows import ending
from tests.support.runs import CLAIM


@pytest.fixture
def said() -> list[str]:
    """What became of the lease."""
    return []


@pytest.fixture
def run(tmp_path: Path, said: list[str]) -> Any:
    outbox = Outbox(tmp_path)
    lease = SimpleNamespace(
        release=lambda reason: said.append("released"),
        stop=lambda *, ended: said.append("over" if ended else "left to the next command"),
    )

    def record(stage: Stage, state: State, note: str = "") -> None:
        outbox.record(CLAIM, stage, state, note)

    kind = WorkflowType.SCRIPT
    return SimpleNamespace(
        claim=CLAIM, outbox=outbox, lease=lease, record=record, stage=Stage.WORKFLOW, workflow_type=kind
    )


def stop(run: Any, *, undelivered: int, monkeypatch: pytest.MonkeyPatch, cancelled: bool = False) -> None:
    monkeypatch.setattr(ending, "is_cancelled", lambda flow_runs: cancelled)
    sender: Any = SimpleNamespace(flush=lambda seconds: undelivered)
    ending.stopped(run, sender, [], KeyboardInterrupt())


@pytest.mark.parametrize("undelivered", [0, 2])
def test_a_run_under_way_is_given_back(run, said, monkeypatch, undelivered):
    run.record(Stage.WORKFLOW, State.START)
    stop(run, undelivered=undelivered, monkeypatch=monkeypatch)
    assert said == ["released"]


NEXT = "left to the next command"


@pytest.mark.parametrize(
    ("last", "undelivered", "becomes"),
    [
        ((Stage.WORKFLOW, State.FAIL), 0, "over"),
        ((Stage.WORKFLOW, State.FAIL), 1, NEXT),
        # What it committed may not be promoted yet.
        ((Stage.UPLOAD, State.SUCCESS), 0, NEXT),
        ((Stage.UPLOAD, State.SUCCESS), 1, NEXT),
    ],
)
def test_a_run_that_is_over_stays_so_also_when_the_server_is_away(run, said, monkeypatch, undelivered, becomes, last):
    run.record(*last)
    stop(run, undelivered=undelivered, monkeypatch=monkeypatch)
    assert said == [becomes]


def test_a_cancel_in_prefect_is_the_stages_fail(run, said, monkeypatch):
    stop(run, undelivered=0, monkeypatch=monkeypatch, cancelled=True)
    failed = run.outbox.find(CLAIM.fence, Stage.WORKFLOW, State.FAIL)
    assert failed is not None and failed.event.note == ending.CANCELLED
    assert said == ["over"]


@pytest.mark.parametrize("is_promoted", [True, False])
def test_a_committed_run_is_settled_once_its_files_are_at_their_names(run, tmp_path, monkeypatch, is_promoted):
    """Until then its state tells the next command what to finish, so that `--cleanup` may not remove it."""

    def promote(*_: object) -> None:
        assert not run.workspace.is_settled
        if not is_promoted:
            raise StorageError("it is away")

    def flush(_seconds: float) -> int:
        return sum(run.outbox.delivered(recorded, True) is None for recorded in run.outbox.pending())

    monkeypatch.setattr(ending.publication, "promote", promote)
    run.error, run.options, run.manifest_sha256, run.remarks = None, RunOptions(), "", []
    run.workspace, run.storage, run.prefix = Workspace(tmp_path, "p:d"), None, "p/d/"
    run.forget_journal = lambda: None
    sender: Any = SimpleNamespace(flush=flush)

    assert ending.ended(run, sender, 0)[0] is Result.COMPLETED
    assert run.workspace.is_settled is is_promoted
