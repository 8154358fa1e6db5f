"""`crunch sync`: deliver what earlier commands in a directory could not tell the server, and nothing else."""

from __future__ import annotations

import json
import sys

import typer

from crunch_tasks.settings import ClientSettings
from flows.connection import check_directory_of_runs, connected
from flows.options import takes_settings
from flows.terminal import AsJson, console, shown

WAITS = 1
"""The exit code when something waits still, or a run is unfinished here."""


@takes_settings("url", "token", "storage_settings", "directory")
def sync(settings: ClientSettings, json_: AsJson = False) -> None:
    """Deliver what earlier runs in the --directory could not tell the server, without processing anything.

    Each other command that processes does this first, so it is for the end of a work day, or of a machine: when
    nothing waits, the directory's runs are all known to the server. A dataset that a command was given without having
    heard of it is given back. Exit code 1 when something waits still, or a run is unfinished here.
    """
    from crunch_tasks.files.opening import open_storage
    from crunch_tasks.link.claims import Claims
    from flows.leftovers import Leftovers, run_of, waiting

    say = console(stderr=True)
    with connected(settings, "storage_settings") as (client, complete):
        check_directory_of_runs(client, complete)
        claims = Claims(complete.directory, complete.url)
        leftovers = Leftovers(
            complete.directory,
            client,
            claims,
            lambda: open_storage(complete.storage_config()),
            lambda sentence: say.print(shown(sentence), soft_wrap=True),
        )
        delivered = leftovers.deliver()
        leftovers.give_unanswered_back()
    left = waiting(complete.directory)
    if left:
        slugs = ", ".join(sorted({run_of(recorded) for recorded in left}))
        say.print(
            shown(f"{len(left)} updates wait still, of runs that go on or of another server: {slugs}"),
            soft_wrap=True,
        )
    unfinished = sorted({request.granted.slug for request in claims.leftovers() if request.granted})
    if unfinished:
        slugs = ", ".join(unfinished)
        say.print(
            shown(f"A command died at work on {slugs}: the next `crunch next` or `crunch loop` here goes on with it."),
            soft_wrap=True,
        )
    if not (left or unfinished or delivered):
        say.print("Nothing waits: the server knows of every run in this directory.", soft_wrap=True)
    if json_:
        rows = [
            {
                "dataset": run_of(recorded),
                "stage": recorded.event.stage.name.lower(),
                "state": recorded.event.state.name.lower(),
                "effective": recorded.effective,
                "reason": recorded.reason,
            }
            for recorded in delivered
        ]
        sys.stdout.write(json.dumps({"delivered": rows, "waiting": len(left), "unfinished": unfinished}) + "\n")
    if left or unfinished:
        raise typer.Exit(WAITS)
