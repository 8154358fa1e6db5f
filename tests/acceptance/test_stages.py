"""How the states of a stage's task in Prefect become its statuses."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from prefect import flow
from prefect.settings import (
    PREFECT_API_URL,
    PREFECT_FLOWS_HEARTBEAT_FREQUENCY,
    PREFECT_LOGGING_TO_API_ENABLED,
    temporary_settings,
)

from crunch_tasks import stages
from crunch_tasks.contract import Stage, State
from crunch_tasks.errors import Cancelled, LeaseLost, TransferError, WorkflowFailed
from crunch_tasks.run import DatasetRun
from tests.support.runs import lone_run, told

# Prefect's heartbeat thread would cost each flow run most of a second.
SETTINGS = {PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None, PREFECT_LOGGING_TO_API_ENABLED: False}


@pytest.fixture
def run(tmp_path: Path) -> DatasetRun:
    return lone_run(tmp_path)


@pytest.fixture
def prefect(prefect_api: str) -> Iterator[None]:
    with temporary_settings(SETTINGS | {PREFECT_API_URL: prefect_api}):
        yield


def run_stage(run: DatasetRun, work: Callable[[DatasetRun], None], retries: int) -> BaseException | None:
    task = stages.stage(Stage.SETUP, retries=retries)(work)

    @flow(validate_parameters=False)
    def around() -> None:
        stages.perform(task, run)

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
