"""`crunch run SLUG`, `python -m flows.run SLUG`, the deployment `crunch/run`: process one dataset, a person's act."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from prefect import flow

from crunch_tasks.errors import NothingToProcess, Refused
from crunch_tasks.settings import ClientSettings, RunOptions
from flows.dataset import process
from flows.report import Outcome
from flows.session import open_session, run_of_deployment


def process_one(settings: ClientSettings, options: RunOptions, slug: str, *, only_waiting: bool = False) -> Outcome:
    """Process the dataset with this slug, in whatever state, unless it is held or somebody's lease on it lives.

    Raises NothingToProcess; with `only_waiting` also when somebody else has processed the dataset or has it, or when
    it does not fit this machine or the time that it has left.
    """
    with open_session(settings) as session:
        try:
            lease = session.claim(dataset=slug, only_waiting=only_waiting, cores=options.processors)
        except Refused as error:
            if only_waiting and error.status == HTTPStatus.CONFLICT:
                raise NothingToProcess(f"Nothing was done: {error}") from error
            raise
        if lease is None:
            raise NothingToProcess(f"The server gives no claim on {slug}.")
        return process(session, lease, options, in_time=only_waiting)


@flow(name="crunch", flow_run_name="run {slug}", persist_result=False)
def run(slug: str, options: RunOptions = RunOptions(), only_waiting: bool = False) -> Any:  # noqa: B008 - frozen
    """Process one dataset. Server, token and storage come from the environment of the worker, or from Prefect's blocks.

    With `only_waiting` one that somebody else has processed, or has, or that does not fit the machine, is left alone.
    """
    return run_of_deployment(lambda settings: process_one(settings, options, slug, only_waiting=only_waiting))


if __name__ == "__main__":
    from flows.cli import main

    main("run")
