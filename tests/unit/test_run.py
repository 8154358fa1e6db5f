"""What a run remembers for the next one."""

from __future__ import annotations

from pathlib import Path

import pytest

from crunch_tasks.contract import Stage, State
from crunch_tasks.errors import WorkflowFailed
from crunch_tasks.files.manifest import Entry, Manifest
from crunch_tasks.hooks import note_of
from crunch_tasks.run import DatasetRun, Journal
from tests.support.runs import lone_run, told


@pytest.fixture
def run(tmp_path: Path) -> DatasetRun:
    return lone_run(tmp_path)


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
