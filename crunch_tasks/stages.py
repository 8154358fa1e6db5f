"""What the three stage tasks have in common: their hooks, their retries, and nothing of theirs in Prefect's cache.

Our own errors are told to Prefect as states, in a sentence: of an error that is raised it logs a traceback, twice.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from prefect import Task, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.logging import get_run_logger
from prefect.states import Cancelled, Failed
from prefect.tasks import exponential_backoff

from crunch_tasks import hooks
from crunch_tasks.contract import Stage
from crunch_tasks.errors import CrunchError, LeaseLost, NoRoom, NoTime, Stopped
from crunch_tasks.run import DatasetRun
from crunch_tasks.stopping import stoppable

RETRIES = 3
BACKOFF_S = 2.0
"""Before the first retry, in seconds; each further one waits twice as long, give or take half."""

GIVEN_BACK = LeaseLost | NoRoom | NoTime | Stopped
"""No failures of a dataset: the lease is another's, the machine has no room or time, the command is told to end."""

StageTask = Task[[DatasetRun], State[Any] | None]


def stage(which: Stage, *, retries: int = 0) -> Callable[[Callable[[DatasetRun], None]], StageTask]:
    """Make a function the task of a stage: its states become statuses, transient errors are tried again."""

    def decorate(function: Callable[[DatasetRun], None]) -> StageTask:
        @functools.wraps(function)
        def watched(run: DatasetRun) -> State[Any] | None:
            """Tells a stage's own error from Prefect's troubles around it."""
            run.stage, run.error = which, None
            try:
                with stoppable():
                    function(run)
            except CrunchError as error:
                run.error = error
                return _state_of(error)
            except Exception as error:
                run.error = error
                raise
            except BaseException as stop:
                # Said now: Prefect, which hears of it next, may wait for its own server.
                run.last_words(stop)
                raise
            return None

        made: StageTask = task(
            name=which.name.lower(),
            task_run_name=which.name.lower(),
            cache_policy=NO_CACHE,
            persist_result=False,
            # Of a task that has none Prefect logs the end with an exception that is not there.
            retries=retries or 1,
            retry_delay_seconds=exponential_backoff(backoff_factor=BACKOFF_S) if retries else 0,
            retry_jitter_factor=0.5 if retries else None,
            retry_condition_fn=hooks.transient if retries else _never,
            on_running=[hooks.started],
            on_completion=[hooks.succeeded],
            on_failure=[hooks.failed],
        )(watched)
        return made

    return decorate


def perform(stage_task: StageTask, run: DatasetRun) -> None:
    """Run the task of a stage to its end. Raises the stage's own error, which its state only tells of."""
    stage_task(run)
    if run.error is not None:
        raise run.error


def _state_of(error: CrunchError) -> State[Any]:
    """Failed, or Cancelled where nothing failed; in the log is all that is to be said, in the state its beginning."""
    told = first_line(error)
    if isinstance(error, GIVEN_BACK):
        return Cancelled(message=told)
    if told != str(error):
        get_run_logger().error("%s", error)
    return Failed(message=told, data=error)


def first_line(error: CrunchError) -> str:
    """What a state says of the error: notes go on with the end of the workflow's output."""
    return next(iter(str(error).splitlines()), "")


def _never(*_: Any) -> bool:
    return False
