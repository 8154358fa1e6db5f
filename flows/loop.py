"""`crunch loop`, `python -m flows.loop` and the deployment `crunch/loop`: process datasets until none waits."""

from __future__ import annotations

import signal
from dataclasses import dataclass
from typing import Any

from prefect import flow

from crunch_tasks.errors import UsageError
from crunch_tasks.settings import ClientSettings, LoopOptions, RunOptions
from flows.lanes import Lanes
from flows.report import Outcome, now
from flows.session import none_waits, open_session, run_of_deployment


@dataclass(frozen=True)
class LoopOutcome:
    """How all runs of a loop ended."""

    runs: list[Outcome]
    seconds: float
    interrupted: bool = False

    @property
    def exit_code(self) -> int:
        """1 when a run failed, else 4 when a lease was lost, 130 after Ctrl-C, 3 without time for any, or 0."""
        codes = {run.exit_code for run in self.runs}
        if self.interrupted and codes.isdisjoint((1, 4)):
            return 128 + signal.SIGINT
        return next((code for code in (1, 4, 0) if code in codes), max(codes, default=0))

    def as_json(self) -> dict[str, Any]:
        return {"runs": [run.as_json() for run in self.runs], "seconds": self.seconds, "exit_code": self.exit_code}


def process_all(
    settings: ClientSettings,
    options: RunOptions,
    project: str = "",
    lanes: LoopOptions = LoopOptions(),  # noqa: B008
) -> LoopOutcome:
    """Process datasets (of `project`) until none waits; one that fails does not stop the others."""
    if not options.upload:
        raise UsageError("--no-upload gives each dataset back, so a loop would take the same one for ever; use next.")
    if lanes.max_disk is not None and not options.cleanup:
        raise UsageError("--max-disk makes room by removing what is published, so it needs --cleanup too.")
    started = now()
    with open_session(settings) as session:
        work = Lanes(session, options, project, lanes)
        try:
            work.run()
        except BaseException:
            # Before the first run, there is nothing to tell but the error itself.
            if work.outcomes:
                session.report.table(work.outcomes, now() - started)
            raise
        seconds = now() - started
        session.report.table(work.outcomes, seconds)
    return LoopOutcome(work.outcomes, seconds, work.interrupted)


@flow(name="crunch", flow_run_name="loop {project}", persist_result=False)
def loop(
    project: str = "",
    options: RunOptions = RunOptions(),  # noqa: B008 - frozen
    lanes: LoopOptions = LoopOptions(),  # noqa: B008 - frozen
) -> Any:
    """Process datasets until none waits. Server, token and storage are the worker's, or those in Prefect's blocks."""

    def work(settings: ClientSettings) -> LoopOutcome:
        outcome = process_all(settings, options, project, lanes)
        if not outcome.runs:
            raise none_waits(project)
        return outcome

    return run_of_deployment(work)


if __name__ == "__main__":
    from flows.cli import main

    main("loop")
