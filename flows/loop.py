"""`crunch loop`, `python -m flows.loop` and the deployment `crunch/loop`: process datasets until none waits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from prefect import flow

from crunch_tasks.errors import UsageError
from crunch_tasks.run import Result
from crunch_tasks.settings import ClientSettings, RunOptions
from flows.dataset import process
from flows.report import Outcome, now
from flows.session import open_session, run_of_deployment


@dataclass(frozen=True)
class LoopOutcome:
    """How all runs of a loop ended."""

    runs: list[Outcome]
    seconds: float

    @property
    def exit_code(self) -> int:
        """0 when every run did, 1 when one failed, 4 when nothing worse happened than a lost lease."""
        codes = {run.exit_code for run in self.runs}
        return 1 if 1 in codes else max(codes, default=0)

    def as_json(self) -> dict[str, Any]:
        return {"runs": [run.as_json() for run in self.runs], "seconds": self.seconds, "exit_code": self.exit_code}


def process_all(settings: ClientSettings, options: RunOptions, project: str = "") -> LoopOutcome:
    """Process datasets (of `project`) until none waits; one that fails does not stop the others."""
    if not options.upload:
        raise UsageError("--no-upload gives each dataset back, so a loop would take the same one for ever; use next.")
    started, runs = now(), []
    with open_session(settings) as session:
        while (lease := session.claim(project=project)) is not None:
            runs.append(process(session, lease, options))
            if runs[-1].result is Result.UNDELIVERED:
                session.finish_leftovers()
        outcome = LoopOutcome(runs, now() - started)
        session.report.table(runs, outcome.seconds)
    return outcome


@flow(name="crunch", flow_run_name="loop {project}", persist_result=False)
def loop(project: str = "", options: RunOptions = RunOptions()) -> None:  # noqa: B008 - frozen
    """Process datasets until none waits. Server, token and storage come from the environment of the worker."""
    run_of_deployment(lambda settings: process_all(settings, options, project))


if __name__ == "__main__":
    from flows.cli import main

    main("loop")
