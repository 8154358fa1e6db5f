"""The command that makes failed datasets unprocessed again: one that is named, or all failed ones of a project."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Mapping
from typing import Annotated, Any

import typer

from crunch_tasks.errors import UsageError
from crunch_tasks.settings import ClientSettings
from flows.connection import connected
from flows.options import takes_settings
from flows.terminal import AsJson, console, line, shown

SLUG = re.compile(r"[^:/?#\s]+:[^:/?#\s]+")


@takes_settings("url", "token")
def retry(
    settings: ClientSettings,
    slug: Annotated[str, typer.Argument(help="The dataset's slug, PROJECT:DATASET", metavar="SLUG")] = "",
    failed: Annotated[bool, typer.Option("--failed", help="All failed datasets of --project")] = False,
    project: Annotated[str, typer.Option("--project", help="The project of --failed (its slug)")] = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Change nothing, and list what would be retried")] = False,
    json_: AsJson = False,
) -> None:
    """Make a dataset, or with --failed all failed ones of a project, unprocessed again.

    The next clients process them anew. Their history stays. One that is being processed is refused: cancel its run
    first.
    """
    _check_words(slug, failed, project)
    with connected(settings) as (client, _):
        answer = client.retry_failed(project, dry_run=dry_run) if failed else client.retry(slug, dry_run=dry_run)
    if json_:
        sys.stdout.write(json.dumps(answer, ensure_ascii=False) + "\n")
        return
    for name in answer["datasets"]:
        sys.stdout.write(f"{line(name)}\n")
    console(stderr=True).print(shown(told(answer, slug, project)), soft_wrap=True)


def told(answer: Mapping[str, Any], slug: str, project: str) -> str:
    """The server's answer in words; either `slug` or `project` was asked for."""
    count, held = answer["count"], answer["held"]
    if not count:
        words = [f"No dataset of {project} has failed" if project else f"{slug} is unprocessed already"]
    else:
        verb = "would be" if answer["dry_run"] else "are" if count > 1 else "is"
        words = [f"{count} dataset{'s' if count > 1 else ''} {verb} unprocessed again"]
    if more := count - len(answer["datasets"]):
        words.append(f"{more} of them are not listed here")
    if held:
        words.append(f"{held} of them held: nobody claims what is held" if project else "it is held: let it go")
    return "; ".join(words) + "."


def _check_words(slug: str, failed: bool, project: str) -> None:
    """Raises UsageError unless either a dataset is named, or the failed ones of a project."""
    if slug and failed:
        raise UsageError("Name a dataset or give --failed, not both.")
    if slug and project:
        raise UsageError("--project goes with --failed; a dataset's slug names its project already.")
    if failed and not project:
        raise UsageError("--failed needs the --project whose failed datasets are to be retried.")
    if not slug and not failed:
        raise UsageError("Name a dataset, or give --failed and --project for all failed ones of a project.")
    if slug and not SLUG.fullmatch(slug):
        raise UsageError(f"{slug!r} is no dataset's slug; one looks like PROJECT:DATASET.")


def add_commands(app: typer.Typer) -> None:
    """Put this file's command on `app`."""
    app.command()(retry)
