"""`crunch sync`: deliver what earlier commands in a directory could not tell the server, and nothing else."""

from __future__ import annotations

import json
import sys

import typer

from crunch_tasks.settings import ClientSettings
from flows.connection import connected
from flows.options import takes_settings
from flows.terminal import AsJson, console, shown

WAITS = 1
"""The exit code when something waits still."""


@takes_settings("url", "token", "storage_settings", "directory")
def sync(settings: ClientSettings, json_: AsJson = False) -> None:
    """Deliver what earlier runs in the --directory could not tell the server, without claiming anything.

    Each other command that processes does this first, so it is for the end of a work day, or of a machine: when
    nothing waits, the directory's runs are all known to the server. Exit code 1 when something waits still.
    """
    from crunch_tasks.files.opening import open_storage
    from crunch_tasks.link.claims import Claims
    from flows.leftovers import Leftovers, run_of, waiting

    say = console(stderr=True)
    with connected(settings, "storage_settings") as (client, complete):
        delivered = Leftovers(
            complete.directory,
            client,
            Claims(complete.directory, complete.url),
            lambda: open_storage(complete.storage_config()),
            lambda sentence: say.print(shown(sentence), soft_wrap=True),
        ).deliver()
    left = waiting(complete.directory)
    if left:
        slugs = ", ".join(sorted({run_of(recorded) for recorded in left}))
        say.print(
            shown(f"{len(left)} updates wait still, of runs that go on or of another server: {slugs}"),
            soft_wrap=True,
        )
    elif not delivered:
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
        sys.stdout.write(json.dumps({"delivered": rows, "waiting": len(left)}) + "\n")
    if left:
        raise typer.Exit(WAITS)
