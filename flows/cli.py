"""The `crunch` command: its sub-commands, and how an error becomes one sentence and an exit code."""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
from types import FrameType
from typing import Annotated, NoReturn

import typer

from crunch_tasks.errors import CrunchError
from crunch_tasks.settings import ClientSettings, LoopOptions, RunOptions
from flows import catalogue, clean, exchange, files, look, retry, site_import, stack, sync
from flows.connection import connected
from flows.of_project import OfProject
from flows.options import takes_options, takes_settings
from flows.prompt import ask_for_missing
from flows.terminal import console, shown

app = typer.Typer(
    name="crunch",
    help="Process datasets: claim, Setup, Workflow, Upload. Settings come from options or CRUNCH_* variables.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    # Its boxes cut the names of options off in a terminal of 80 columns.
    rich_markup_mode=None,
    epilog="Exit codes: 0 done, 1 a run failed, 2 wrong usage, 3 nothing to process, 4 lease lost, 130 or 143 stopped.",
)
files.add_commands(app)
app.command()(sync.sync)
app.command()(clean.clean)
catalogue.add_commands(app)
retry.add_commands(app)
look.add_commands(app)
exchange.add_commands(app)
site_import.add_commands(app)
stack.add_commands(app)

Slug = Annotated[str, typer.Argument(help="The dataset's slug, PROJECT:DATASET", metavar="SLUG")]
Project = Annotated[str, typer.Option("--project", help="Only datasets of this project (its slug)")]
Json = Annotated[bool, typer.Option("--json", help="Print the outcome as JSON")]
needs_all = takes_settings("url", "token", "storage_settings", "directory")
serves = takes_settings("url", "token", "storage_settings", "directory", "labels", "until")
takes_run = takes_options("options", RunOptions)


@app.command()
@needs_all
@takes_run
def run(slug: Slug, settings: ClientSettings, options: RunOptions, json_: Json = False) -> None:
    """Process one dataset, whatever its state, unless somebody holds it."""
    from flows.run import process_one

    _finish(process_one(ask_for_missing(settings), options, slug).as_json(), json_)


@app.command(name="next", cls=OfProject)
@serves
@takes_run
def next_(settings: ClientSettings, options: RunOptions, project: Project = "", json_: Json = False) -> None:
    """Process the next dataset that waits and fits this machine; exit code 3 when there is none."""
    from flows.next import process_next

    _finish(process_next(ask_for_missing(settings), options, project).as_json(), json_)


@app.command(cls=OfProject)
@serves
@takes_run
@takes_options("lanes", LoopOptions)
def loop(
    settings: ClientSettings, options: RunOptions, lanes: LoopOptions, project: Project = "", json_: Json = False
) -> None:
    """Process datasets until none is left; one that fails does not stop the others.

    While some compute, the next ones are fetched and the last ones are sent back. Ctrl-C lets those that compute come
    to their end and gives the others back; a second one gives back everything.
    """
    from flows.loop import process_all

    _finish(process_all(ask_for_missing(settings), options, project, lanes).as_json(), json_)


@app.command(cls=OfProject)
@takes_settings("url", "token")
def dispatch(
    settings: ClientSettings,
    project: Annotated[str, typer.Option("--project", help="The project whose datasets are scheduled (its slug)")],
    pool: Annotated[str, typer.Option("--pool", help="The Prefect work pool that they go to")] = "crunch",
    limit: Annotated[
        int | None,
        typer.Option(
            "--limit", min=1, help="The most scheduled or running at once  [default: the pool's own, else 10]"
        ),
    ] = None,
    once: Annotated[bool, typer.Option("--once", help="Schedule only what goes now, and do not wait")] = False,
    json_: Json = False,
) -> None:
    """Schedule the waiting datasets of a project as flow runs on Prefect's workers, until none is left.

    May be stopped and started again at any time, and run beside others and beside crunch loop: no dataset is scheduled
    twice. What is scheduled goes on without it. Exit code 1 when flow runs did not process what they were given, or a
    dataset failed.
    """
    from deployments.registering import Wanted
    from flows.dispatch import Dispatch, find_deployment, limit_of
    from flows.standing import standing_prefect

    def say(text: str) -> None:
        console(stderr=True).print(shown(text), soft_wrap=True)

    with connected(settings) as (client, _), standing_prefect() as prefect:
        client.get_project(project)
        deployment = find_deployment(prefect, Wanted(pool).name("run"))
        work = Dispatch(client, prefect, deployment, project, limit or limit_of(prefect, pool), say)
        _finish(work.work(once=once).as_json(), json_)


def _finish(outcome: dict[str, object], as_json: bool) -> None:
    if as_json:
        sys.stdout.write(json.dumps(outcome) + "\n")
    code = outcome["exit_code"]
    if code:
        raise typer.Exit(int(str(code)))


def main(*words: str) -> None:
    """Run `crunch WORDS` with the arguments of this process; an error ends as a sentence on stderr and an exit code."""
    signal.signal(signal.SIGTERM, _terminated)
    quieten_prefect()
    logging.raiseExceptions = False
    _show_warnings()
    end_well(app, [*words, *sys.argv[1:]], "crunch")


def quieten_prefect() -> None:
    """It tells its states, and errors with their tracebacks, in its own pages; the terminal is for our own words."""
    os.environ.setdefault("PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL", "CRITICAL")
    os.environ.setdefault("PREFECT_INTERNAL_LOGGING_LEVEL", "CRITICAL")


def end_well(app: typer.Typer, args: list[str], name: str) -> None:
    """Run `app`, called `name`, with `args`; an error ends as a sentence on stderr and an exit code."""
    try:
        try:
            app(args=args, prog_name=name)
        finally:
            # Here, and not at Python's exit, is to be seen that nobody reads it any more.
            sys.stdout.flush()
    except CrunchError as error:
        console(stderr=True).print(shown(f"crunch: {error}"), style="bold red", soft_wrap=True)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        _end_interrupted()
    except BrokenPipeError:
        _end_unread()
    except SystemExit as end:
        # Typer takes the one for an error, and makes the other an exit without a word.
        if isinstance(end.__context__, BrokenPipeError):
            _end_unread()
        if end.__context__ is not None and isinstance(end.__context__.__cause__, KeyboardInterrupt):
            _end_interrupted()
        raise
    except OSError as error:
        # A full or broken disk, wherever it is.
        place = f" ({error.filename})" if error.filename else ""
        console(stderr=True).print(shown(f"crunch: {error.strerror or error}{place}"), style="bold red", soft_wrap=True)
        sys.exit(1)


def _end_interrupted() -> NoReturn:
    """Ctrl-C: what is said tells it from a command that came to its end."""
    sys.stderr.write("crunch: interrupted\n")
    sys.exit(128 + signal.SIGINT)


def _end_unread() -> NoReturn:
    """Who read our output went away (`crunch export ... | head`): end as others do whom that ends."""
    # Python would complain once more at exit.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(128 + signal.SIGPIPE)


def _show_warnings() -> None:
    """What the line to the server has to say, such as that it waits for an answer, goes to stderr, a line each."""
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(message)s"))
    ours = logging.getLogger("crunch")
    ours.addHandler(handler)
    ours.propagate = False


def _terminated(_signal: int, _frame: FrameType | None) -> None:
    """A batch system's notice outside a flow; inside one, Prefect's engine raises its own."""
    raise SystemExit(128 + signal.SIGTERM)
