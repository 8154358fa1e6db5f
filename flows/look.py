"""The commands that look at what the server has: projects and datasets, and what a dataset's last run said."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.filesize import decimal

from crunch_tasks.contract import DatasetState, Stage, State
from crunch_tasks.settings import ClientSettings
from flows.connection import connected
from flows.of_project import OfProject
from flows.options import takes_settings
from flows.terminal import AsJson, console, line, shown

if TYPE_CHECKING:
    from crunch_tasks.link.client import CrunchClient

LOG_BYTES = 64 * 1024
"""How much of each log is shown."""

PROJECT_COLUMNS = {"visibility": 10, "workflow_type": 13, "slug": 0}
DATASET_COLUMNS = {"state": 11, "held": 4, "attempt": 7, "slug": 0}
"""The columns of a table and their widths; the last is as wide as it needs to be."""


@takes_settings("url", "token")
def list_(
    settings: ClientSettings,
    project: Annotated[str, typer.Option("--project", help="The datasets of this project (its slug)")] = "",
    state: Annotated[DatasetState | None, typer.Option("--state", help="Only datasets in this state")] = None,
    json_: AsJson = False,
) -> None:
    """List the projects, or the datasets of one; with --state alone, those of all projects."""
    with connected(settings) as (client, _):
        if not project and state is None:
            _print(client.pages("api/projects/"), PROJECT_COLUMNS, json_)
        else:
            _print(map(_dataset, _datasets(client, project, state)), DATASET_COLUMNS, json_)


def _datasets(client: CrunchClient, project: str, state: DatasetState | None) -> Iterator[Mapping[str, Any]]:
    query = {"state": state.value} if state else {}
    for slug in [project] if project else [str(found["slug"]) for found in client.pages("api/projects/")]:
        yield from client.pages("api/datasets/", project=slug, **query)


def _dataset(found: Mapping[str, Any]) -> dict[str, Any]:
    return {**found, "held": "held" if found["locked"] else ""}


def _print(rows: Iterable[Mapping[str, Any]], columns: Mapping[str, int], as_json: bool) -> None:
    """A line for each row as it comes, so that a long list needs no memory; or all as one JSON list."""
    if as_json:
        sys.stdout.write(json.dumps([dict(row) for row in rows], ensure_ascii=False) + "\n")
        return
    heading = {name: name.replace("_", " ") for name in columns}
    for number, row in enumerate(rows):
        for told in (heading, row) if number == 0 else (row,):
            cells = (line(str(told[name])).ljust(width) for name, width in columns.items())
            sys.stdout.write("  ".join(cells).rstrip() + "\n")


@takes_settings("url", "token", "storage_settings")
def logs(
    slug: Annotated[str, typer.Argument(help="The dataset's slug", metavar="SLUG")], settings: ClientSettings
) -> None:
    """Show what a dataset's runs reported, and the ends of the logs that its last one left in the storage."""
    from crunch_tasks.files.logs import read_logs
    from crunch_tasks.files.opening import open_storage

    with connected(settings, "storage_settings") as (client, complete):
        dataset = client.get_dataset(slug)
        statuses = list(client.pages("api/statuses/", dataset=str(dataset["id"])))
    for status in statuses:
        what = f"{Stage(status['stage']).name.capitalize()} {State(status['state']).name.capitalize()}"
        more = "" if status["effective"] else f" ({status['refusal']})"
        sys.stdout.write(f"{status['created']}  {what}{more}\n")
        for told in shown(status["note"]).splitlines():
            sys.stdout.write(f"    {told}\n")
    if not statuses:
        console(stderr=True).print(shown(f"{slug} has not been processed yet."), soft_wrap=True)
        return
    fence = max(int(status["fence"]) for status in statuses)
    found = read_logs(open_storage(complete.storage_config()), dataset, fence, LOG_BYTES)
    for log in found:
        cut = f", the last {decimal(LOG_BYTES)} of {decimal(log.size)}" if log.size > LOG_BYTES else ""
        sys.stdout.write(f"\n==> {line(log.path)}{cut} <==\n{shown(log.end.decode('utf-8', 'replace'))}")
    if not found:
        console(stderr=True).print("The last run has left no logs in the storage (yet).", soft_wrap=True)


def add_commands(app: typer.Typer) -> None:
    """Put this file's commands on `app`."""
    app.command(name="list", cls=OfProject)(list_)
    app.command()(logs)
