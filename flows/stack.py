"""The commands for the local stack, `crunch up`, `down` and `status`: servers and a worker in the background."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from crunch_tasks.errors import UsageError
from flows.terminal import AsJson, console, shown

if TYPE_CHECKING:
    from deployments.stack.folder import StackFolder
    from deployments.stack.status import StackStatus

Data = Annotated[
    Path | None,
    typer.Option("--data", help="The folder of all that the stack keeps  [default: ~/.local/share/crunch]"),
]


def up(
    data: Data = None,
    port: Annotated[
        int | None, typer.Option("--port", min=1, max=65535, help="The Crunch server's port (8000 at first)")
    ] = None,
    prefect_port: Annotated[
        int | None, typer.Option("--prefect-port", min=1, max=65535, help="The Prefect server's port (4200 at first)")
    ] = None,
    worker: Annotated[
        bool | None,
        typer.Option("--worker/--no-worker", help="Whether a worker runs too (it does at first)"),
    ] = None,
    storage_settings: Annotated[
        Path | None,
        typer.Option(help="The TOML or JSON file that says where the files are (a folder of the stack's own at first)"),
    ] = None,
    postgres: Annotated[
        bool, typer.Option("--postgres", help="Keep all in a PostgreSQL of the stack's own, instead of SQLite")
    ] = False,
    postgres_url: Annotated[str, typer.Option(help="Keep all in the PostgreSQL database at this address")] = "",
) -> None:
    """Start a Crunch server, a Prefect server and a worker in the background, as far as they do not run yet.

    What was said at first is kept in the --data folder. CRUNCH_* and PREFECT_* variables are not read.
    """
    from deployments.stack.folder import EMBEDDED, Wanted
    from deployments.stack.up import up

    if postgres and postgres_url:
        raise UsageError("--postgres is a PostgreSQL of the stack's own, --postgres-url another one. Give one of them.")
    folder = _folder(data)
    wanted = Wanted(
        port=port,
        prefect_port=prefect_port,
        worker=worker,
        storage_settings=str(storage_settings.expanduser().absolute()) if storage_settings else None,
        database=EMBEDDED if postgres else postgres_url or None,
    )
    with _progress() as say:
        outcome = up(folder, wanted, say)
    stack, lines = outcome.stack, []
    for part in stack.parts():
        word = "started" if part.name in outcome.started else "runs already"
        lines.append(f"{part.name:<15} {word:<13} {part.address}".rstrip())
    if outcome.password:
        lines.append(f"\nSign in as admin with the password {outcome.password}, which is shown only now.")
    lines.append(
        f"\nFor another password: source {folder.server_env} && {sys.executable} -m server changepassword admin"
    )
    lines.append(f"For crunch and prefect in a shell: source {folder.client_env}")
    sys.stdout.write("\n".join(lines) + "\n")


def down(data: Data = None) -> None:
    """Stop the local stack: what the worker processes is given back first. Its data stay."""
    from deployments.stack.down import down

    folder = _folder(data)
    with _progress() as say:
        stopped = down(folder, say)
    words = f"Stopped: {', '.join(stopped)}." if stopped else f"Nothing of {folder.path} runs."
    sys.stdout.write(f"{words}\n")


def status(data: Data = None, json_: AsJson = False) -> None:
    """Show what runs of the local stack; exit code 0 when all of it does and is well, else 1."""
    from deployments.stack.status import status

    found = status(_folder(data))
    if json_:
        sys.stdout.write(json.dumps({**asdict(found), "exit_code": 0 if found.is_well else 1}) + "\n")
    else:
        _print(found)
    if not found.is_well:
        raise typer.Exit(1)


def _print(found: StackStatus) -> None:
    if not found.services:
        sys.stdout.write(f"There is no stack in {found.data} yet. Start one with `crunch up`.\n")
    for service in found.services:
        state = f"running since {service.since}, pid {service.pid}" if service.running else "stopped"
        sys.stdout.write(f"{service.name:<15} {state}  {service.address}".rstrip() + "\n")
        if service.running and service.problem:
            sys.stdout.write(f"    {shown(service.problem)}\n")
        sys.stdout.write(f"    log: {service.log}\n")
    if found.unfinished:
        sys.stdout.write(
            "The first `crunch up` here has not come to its end. If it was ended, `crunch up` goes on from there, and "
            "`crunch down` stops what runs.\n"
        )
    if found.datasets is not None:
        counts = ", ".join(f"{number} {state}" for state, number in sorted(found.datasets.items()))
        sys.stdout.write(f"Datasets: {counts or 'none'}\n")


def _folder(data: Path | None) -> StackFolder:
    """By default one for each user, not for each working folder: what runs in the background belongs to no shell."""
    from deployments.stack.folder import StackFolder

    shared = Path(os.environ.get("XDG_DATA_HOME") or "~/.local/share")
    return StackFolder((data or shared / "crunch").expanduser().absolute())


@contextmanager
def _progress() -> Iterator[Callable[[str], None]]:
    """Tells the step that is under way: a moving line at a terminal, else a line each, on stderr."""
    to = console(stderr=True)
    if not to.is_terminal:
        yield lambda text: to.print(text, soft_wrap=True)
        return
    with to.status("") as moving:
        yield moving.update


def add_commands(app: typer.Typer) -> None:
    """Put this file's commands on `app`."""
    app.command()(up)
    app.command()(down)
    app.command()(status)
