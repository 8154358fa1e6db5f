"""What the three stage tasks have in common: their hooks, their retries, and nothing of theirs in Prefect's cache."""

from __future__ import annotations

import functools
from collections.abc import Callable

from prefect import Task, task
from prefect.cache_policies import NO_CACHE
from prefect.tasks import exponential_backoff

from crunch_tasks import hooks
from crunch_tasks.contract import Stage
from crunch_tasks.run import DatasetRun
from crunch_tasks.stopping import stoppable

RETRIES = 3
BACKOFF_S = 2.0
"""Before the first retry, in seconds; each further one waits twice as long, give or take half."""

StageTask = Task[[DatasetRun], None]


def stage(which: Stage, *, retries: int = 0) -> Callable[[Callable[[DatasetRun], None]], StageTask]:
    """Make a function the task of a stage: its states become statuses, transient errors are tried again."""

    def decorate(function: Callable[[DatasetRun], None]) -> StageTask:
        @functools.wraps(function)
        def watched(run: DatasetRun) -> None:
            """Tells a stage's own error from Prefect's troubles around it."""
            run.stage, run.error = which, None
            try:
                with stoppable():
                    function(run)
            except Exception as error:
                run.error = error
                raise
            except BaseException as stop:
                # Said now: Prefect, which hears of it next, may wait for its own server.
                run.last_words(stop)
                raise

        made: StageTask = task(
            name=which.name.lower(),
            task_run_name=which.name.lower(),
            cache_policy=NO_CACHE,
            persist_result=False,
            retries=retries,
            retry_delay_seconds=exponential_backoff(backoff_factor=BACKOFF_S) if retries else 0,
            retry_jitter_factor=0.5 if retries else None,
            retry_condition_fn=hooks.transient,
            on_running=[hooks.started],
            on_completion=[hooks.succeeded],
            on_failure=[hooks.failed],
        )(watched)
        return made

    return decorate
