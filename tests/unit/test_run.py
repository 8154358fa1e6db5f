"""What a run remembers for the next one, and how the states of its tasks in Prefect become its statuses."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from prefect import flow
from prefect.settings import PREFECT_FLOWS_HEARTBEAT_FREQUENCY, temporary_settings
from prefect.testing.utilities import prefect_test_harness

from crunch_tasks import stages
from crunch_tasks.contract import Claim, Stage, State
from crunch_tasks.errors import Cancelled, LeaseLost, TransferError, WorkflowFailed
from crunch_tasks.files.manifest import Entry, Manifest
from crunch_tasks.files.workspace import Workspace
from crunch_tasks.hooks import note_of
from crunch_tasks.link.outbox import Outbox
from crunch_tasks.run import DatasetRun, Journal
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
    workflow_type="script",  # type: ignore[arg-type]
    workflow_sha256="",
)


@pytest.fixture
def run(tmp_path: Path) -> DatasetRun:
    """A run with a real workspace and outbox; its lease and storage are not used."""
    workspace = Workspace(tmp_path / "work", "p:d")
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


# --- the journal -----------------------------------------------------------------------------------------------------


def test_a_journal_is_read_as_it_was_kept_and_forgotten_with_the_commit(run: DatasetRun) -> None:
    assert run.journal() == Journal()
    kept = Journal(inputs="i", workflow="w", workflow_done=True)
    run.keep_journal(kept)
    assert run.journal() == kept
    run.forget_journal()
    run.forget_journal()
    assert run.journal() == Journal()


@pytest.mark.parametrize("text", ["", "{", "[]", "1", '{"inputs": "i", "more": 1}', "\x00"])
def test_a_journal_that_cannot_be_understood_is_none(run: DatasetRun, text: str) -> None:
    run.keep_journal(Journal(inputs="i"))
    (run.workspace.state / Journal.NAME).write_text(text)
    assert run.journal() == Journal()


def test_only_the_same_inputs_and_workflow_are_the_same_start() -> None:
    start = Journal("i", "w")
    assert start.same_start(Journal("i", "w", workflow_done=True))
    assert not start.same_start(Journal("j", "w"))
    assert not start.same_start(Journal("i", "v"))


def test_the_setup_manifest_is_kept_whole_or_not_at_all(run: DatasetRun) -> None:
    assert run.kept_setup_manifest() is None
    manifest = Manifest({"ä#1": Entry("a" * 32, 5, 10**18 + 1)})
    run.keep_setup_manifest(manifest)
    assert run.kept_setup_manifest() == manifest
    path = run.workspace.state / "setup_manifest.json"
    path.write_bytes(path.read_bytes()[:-5])
    assert run.kept_setup_manifest() is None


def test_an_update_is_written_down_once(run: DatasetRun) -> None:
    run.record(Stage.SETUP, State.START)
    run.record(Stage.SETUP, State.START, "again")
    run.manifest_sha256 = "ab" * 32
    run.remarks = ["Not uploaded: a pipe"]
    run.record(Stage.UPLOAD, State.SUCCESS)
    assert told(run) == [(Stage.SETUP, State.START, ""), (Stage.UPLOAD, State.SUCCESS, "Not uploaded: a pipe")]
    assert [kept.event.manifest_sha256 for kept in run.outbox.pending()] == ["", "ab" * 32]


def test_a_fail_says_what_a_person_can_use() -> None:
    assert note_of(WorkflowFailed("exit code 7")) == "exit code 7"
    assert note_of(KeyError("x")) == "KeyError: 'x'"


# --- states of real tasks become statuses ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def prefect() -> Iterator[None]:
    # Its heartbeat thread would cost each flow run most of a second.
    with prefect_test_harness(), temporary_settings({PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}):
        yield


def run_stage(run: DatasetRun, work: Callable[[DatasetRun], None], retries: int) -> BaseException | None:
    task = stages.stage(Stage.SETUP, retries=retries)(work)

    @flow(validate_parameters=False)
    def around() -> None:
        task(run)

    result = around(return_state=True).result(raise_on_failure=False)
    return result if isinstance(result, BaseException) else None


class Work:
    """Raises each of `errors` in turn, then does well."""

    def __init__(self, *errors: Exception) -> None:
        self.errors = list(errors)
        self.calls = 0

    def __call__(self, run: DatasetRun) -> None:
        self.calls += 1
        if self.errors:
            raise self.errors.pop(0)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("errors", "calls", "ends"),
    [
        ([], 1, [(State.SUCCESS, "")]),
        ([TransferError("a")], 2, [(State.SUCCESS, "")]),
        ([TransferError("a"), TransferError("b"), TransferError("c")], 3, [(State.FAIL, "c")]),
        ([TransferError("a"), WorkflowFailed("no use")], 2, [(State.FAIL, "no use")]),
        ([WorkflowFailed("no use")], 1, [(State.FAIL, "no use")]),
        ([ValueError("a bug")], 1, [(State.FAIL, "ValueError: a bug")]),
        ([Cancelled("by alice")], 1, [(State.FAIL, "by alice")]),
        ([LeaseLost()], 1, []),
    ],
)
def test_a_stage_starts_once_and_ends_once_whatever_its_retries(
    prefect: None,
    monkeypatch: pytest.MonkeyPatch,
    run: DatasetRun,
    errors: list[Exception],
    calls: int,
    ends: list[tuple[State, str]],
) -> None:
    monkeypatch.setattr(stages, "BACKOFF_S", 0)
    work = Work(*errors)

    def setup(run: DatasetRun) -> None:
        work(run)

    last = errors[calls - 1] if len(errors) >= calls else None
    assert type(run_stage(run, setup, retries=2)) is type(last)
    assert work.calls == calls
    # What the run takes for its error is the stage's own, not Prefect's; a retry that did well leaves none.
    assert run.error is last
    assert told(run) == [(Stage.SETUP, State.START, ""), *((Stage.SETUP, *end) for end in ends)]
