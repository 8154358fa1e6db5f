"""`crunch run SLUG`, `python -m flows.run SLUG`, the deployment `crunch/run`: process one dataset, a person's act."""

from __future__ import annotations

from prefect import flow

from crunch_tasks.errors import NothingToProcess
from crunch_tasks.settings import ClientSettings, RunOptions
from flows.dataset import process
from flows.report import Outcome
from flows.session import open_session, run_of_deployment


def process_one(settings: ClientSettings, options: RunOptions, slug: str) -> Outcome:
    """Process the dataset with this slug, in whatever state, unless it is held or somebody's lease on it lives."""
    with open_session(settings) as session:
        lease = session.claim(dataset=slug)
        if lease is None:
            raise NothingToProcess(f"The server gives no claim on {slug}.")
        return process(session, lease, options)


@flow(name="crunch", flow_run_name="run {slug}", persist_result=False)
def run(slug: str, options: RunOptions = RunOptions()) -> None:  # noqa: B008 - frozen
    """Process one dataset. Server, token and storage come from the environment of the worker."""
    run_of_deployment(lambda settings: process_one(settings, options, slug))


if __name__ == "__main__":
    from flows.cli import main

    main("run")
