"""`python -m deployments`: set up a Prefect server for Crunch, once for all machines."""

from __future__ import annotations

import os
import re
import sys
from datetime import timedelta
from http import HTTPStatus
from typing import Annotated

import typer
from prefect.client.schemas.schedules import CronSchedule, IntervalSchedule
from pydantic import ValidationError

from crunch_tasks.errors import CrunchError, Refused, UsageError
from crunch_tasks.link.client import CrunchClient
from crunch_tasks.settings import ClientSettings, client_settings
from deployments.registering import KINDS, Wanted, check_name, register, set_up_pool
from deployments.stack.services import POOL
from deployments.upkeep import delete_old_runs, mark_zombies
from flows.blocks import save_blocks, with_blocks
from flows.cli import end_well
from flows.options import takes_settings
from flows.prompt import ask_for_missing
from flows.standing import standing_prefect

app = typer.Typer(
    name="deployments",
    help="Set up a Prefect server for Crunch: the one at PREFECT_API_URL. Each command may be repeated.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    rich_markup_mode=None,
)
UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
LONGEST = timedelta(days=366)
"""The rarest schedule: one of thousands of years leads to dates that no calendar has."""
MOST_DAYS = 36_500
"""A hundred years: all flow runs are younger."""


@app.command()
def pools(
    name: Annotated[str, typer.Option(help="The work pool's name")] = POOL,
    kind: Annotated[str, typer.Option("--type", help=f"How its workers start runs: {', '.join(KINDS)}")] = "process",
    limit: Annotated[int | None, typer.Option(min=1, help="Runs at once, on all its workers together")] = None,
    image: Annotated[str, typer.Option(help="The image of its runs (docker, kubernetes); `crunch` at first")] = "",
) -> None:
    """Make a work pool, or change its limit or its image."""
    check_name("--name", name)
    if kind not in KINDS:
        raise UsageError(f"--type: {kind!r} is none of {', '.join(KINDS)}.")
    with standing_prefect() as client:
        sys.stdout.write(f"Work pool {name} ({kind}): {set_up_pool(client, name, kind, limit, image)}\n")


@app.command()
def deploy(
    pool: Annotated[str, typer.Option(help="The work pool that the runs go to")] = POOL,
    project: Annotated[str, typer.Option(help="Have next and loop take datasets of this project only")] = "",
    every: Annotated[str, typer.Option(help="Run next so often, such as 5m or 1h")] = "",
    cron: Annotated[str, typer.Option(help="Run next at these times, such as '0 22 * * *'")] = "",
    limit: Annotated[int | None, typer.Option(min=1, help="Runs at once of each (with --project: of its own)")] = None,
    tag: Annotated[list[str] | None, typer.Option(help="A tag for their runs (the same); may be repeated")] = None,
) -> None:
    """Register the deployments crunch/run, crunch/next and crunch/loop.

    Those of another pool than `crunch` have its name at the end, and so have next and loop of a project. All projects
    share crunch/run: with --project, --limit and --tag are for that project's next and loop only. Without --every and
    --cron a schedule stays as it is; at first it is one of five minutes that is off. A limit and tags stay as well.
    """
    if every and cron:
        raise UsageError("--every and --cron both say when. Give one of them.")
    schedule = _interval(every) if every else _cron(cron) if cron else None
    wanted = Wanted(pool, project, schedule, limit, tag or [])
    with standing_prefect() as client:
        if project:
            _check_project(project)
        for made in register(client, wanted):
            sys.stdout.write(f"{made}\n")


@app.command()
@takes_settings("url", "token", "storage_settings")
def blocks(settings: ClientSettings) -> None:
    """Keep server, token and storage in Prefect, for runs on machines whose environment does not have them.

    Prefect encrypts them and does not show them in its pages. Whoever may use its API can read them all the same.
    """
    with standing_prefect():
        for saved in save_blocks(ask_for_missing(settings)):
            sys.stdout.write(f"{saved}\n")


@app.command()
def automations() -> None:
    """Have Prefect mark runs that a worker started as crashed when nothing is heard of them any more."""
    with standing_prefect() as client:
        for done in mark_zombies(client):
            sys.stdout.write(f"{done}\n")


@app.command()
def retention(
    days: Annotated[float, typer.Option(help="Delete what ended more days ago than this")],
) -> None:
    """Delete old flow runs of Crunch from Prefect, with their logs and artifacts. Let it run each night."""
    if not 0 <= days <= MOST_DAYS:
        raise UsageError(f"--days: {days:g} is no number from 0 to {MOST_DAYS}.")
    with standing_prefect() as client:
        sys.stdout.write(f"{delete_old_runs(client, days)} flow runs deleted\n")


def _check_project(slug: str) -> None:
    """Raises UsageError when the Crunch server has no such project; where it cannot be asked, says so."""
    try:
        with with_blocks(client_settings()) as settings:
            token = settings.token.get_secret_value()
            if not (settings.url and token):
                raise UsageError("neither the environment (CRUNCH_URL, CRUNCH_TOKEN) nor Prefect's blocks name one.")
            with CrunchClient(settings.url, token, patience_s=0) as crunch:
                crunch.get_project(slug)
    except CrunchError as error:
        if isinstance(error, Refused) and error.status == HTTPStatus.NOT_FOUND:
            raise UsageError(f"--project {slug}: {error}") from error
        sys.stderr.write(f"Whether there is a project {slug} could not be looked up: {error}\n")


def _interval(text: str) -> IntervalSchedule:
    found = re.fullmatch(r"([1-9]\d{0,8})([smhd])", text)
    interval = timedelta(**{UNITS[found[2]]: int(found[1])}) if found else None
    if interval is None or interval > LONGEST:
        raise UsageError(f"--every: {text!r} is no time up to {LONGEST.days}d. Write it like 30s, 5m, 1h or 1d.")
    return IntervalSchedule(interval=interval)


def _cron(text: str) -> CronSchedule:
    try:
        return CronSchedule(cron=text)
    except ValidationError:
        raise UsageError(f"--cron: {text!r} is not five fields that cron knows, such as '0 22 * * *'.") from None


def main() -> None:
    # What Prefect has to say beside its answers is for its own pages.
    os.environ.setdefault("PREFECT_LOGGING_LEVEL", "ERROR")
    end_well(app, sys.argv[1:], "python -m deployments")


if __name__ == "__main__":
    main()
