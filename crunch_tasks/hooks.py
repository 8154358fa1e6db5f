"""From a task's state in Prefect to a dataset's status: plain functions, since Prefect calls hooks by name.

Prefect runs `started` on every attempt of a task and again when a signal hits it; the outbox keeps one event of each
(claim, stage, state), so that a stage starts once. `failed` runs after the last retry only. What a hook raises is
logged and swallowed by Prefect, so `flows.dataset` makes sure afterwards that the last event was recorded.
"""

from __future__ import annotations

from typing import Any

from prefect import Task
from prefect.client.schemas.objects import State as PrefectState
from prefect.client.schemas.objects import TaskRun
from prefect.context import TaskRunContext

from crunch_tasks.contract import Stage, State
from crunch_tasks.errors import CrunchError, Unauthorized
from crunch_tasks.run import DatasetRun

AnyTask = Task[Any, Any]


def started(task: AnyTask, task_run: TaskRun, state: PrefectState[Any]) -> None:
    """A stage begins."""
    _current_run().record(Stage[task.name.upper()], State.START)


def succeeded(task: AnyTask, task_run: TaskRun, state: PrefectState[Any]) -> None:
    """A stage is done; of Upload it carries the manifest's SHA-256, which is the commit."""
    _current_run().record(Stage[task.name.upper()], State.SUCCESS)


def failed(task: AnyTask, task_run: TaskRun, state: PrefectState[Any]) -> None:
    """A stage failed for good; with a refused token there is nothing to be said to the server."""
    error = error_of(state)
    if not isinstance(error, Unauthorized):
        _current_run().record(Stage[task.name.upper()], State.FAIL, note_of(error))


def transient(task: AnyTask, task_run: TaskRun, state: PrefectState[Any]) -> bool:
    """Whether trying again can help: Prefect's `retry_condition_fn` of Setup and Upload."""
    error = error_of(state)
    return isinstance(error, CrunchError) and error.retryable


def error_of(state: PrefectState[Any]) -> BaseException | None:
    """The exception that a failed state carries."""
    result = state.result(raise_on_failure=False)
    return result if isinstance(result, BaseException) else None


def note_of(error: BaseException | None) -> str:
    """What a Fail says: our own errors are written for people, of all others the kind matters too."""
    return str(error) if isinstance(error, CrunchError) else f"{type(error).__name__}: {error}"


def _current_run() -> DatasetRun:
    context = TaskRunContext.get()
    if context is None:
        raise RuntimeError("a stage's hook runs inside its task only")
    run: DatasetRun = context.parameters["run"]
    return run
