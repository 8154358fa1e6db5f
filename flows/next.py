"""`crunch next`, `python -m flows.next` and the deployment `crunch/next`: process the next dataset that waits."""

from __future__ import annotations

from typing import Any

from prefect import flow

from crunch_tasks.settings import ClientSettings, RunOptions
from flows.dataset import process
from flows.report import Outcome
from flows.session import none_waits, open_session, run_of_deployment


def process_next(settings: ClientSettings, options: RunOptions, project: str = "") -> Outcome:
    """Process the next dataset (of `project`). Raises NothingToProcess when none waits, or none that fits."""
    with open_session(settings) as session:
        lease = session.claim(project=project, cores=options.processors)
        if lease is None:
            raise none_waits(project)
        return process(session, lease, options)


@flow(name="crunch", flow_run_name="next {project}", persist_result=False)
def next_(project: str = "", options: RunOptions = RunOptions()) -> Any:  # noqa: B008 - frozen
    """Process the next dataset. Server, token and storage are the worker's, or those in Prefect's blocks."""
    return run_of_deployment(lambda settings: process_next(settings, options, project))


if __name__ == "__main__":
    from flows.cli import main

    main("next")
