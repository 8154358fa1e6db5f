"""The commands that fill the catalogue: projects, datasets, items, attributes; and diagnostics."""

from __future__ import annotations

import datetime as dt
import inspect
import json
import math
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.filesize import decimal
from rich.table import Table

from crunch_tasks.contract import ATTRIBUTE_KINDS, AttributeKind, Visibility, WorkflowType
from crunch_tasks.errors import UsageError
from crunch_tasks.needs import EXAMPLE, canonical
from crunch_tasks.settings import ClientSettings
from flows.connection import connected
from flows.options import takes_settings
from flows.terminal import AsJson, cell, console, shown

needs_server = takes_settings("url", "token")
Description = Annotated[str, typer.Option(help="A brief description")]
Details = Annotated[str, typer.Option(help="A long description, in Markdown")]


@needs_server
def add_project(
    name: Annotated[str, typer.Argument(help="The project's name")],
    settings: ClientSettings,
    description: Description = "",
    details: Details = "",
    workflow_file: Annotated[
        Path | None, typer.Option(help="The script or Snakefile that every dataset runs through", dir_okay=False)
    ] = None,
    workflow_type: Annotated[
        WorkflowType | None, typer.Option("--workflow", help="Its type; a file named Snakefile or *.smk is Snakemake's")
    ] = None,
    needs: Annotated[str, typer.Option(help=f"What its datasets ask of a machine, such as '{EXAMPLE}'")] = "",
    visibility: Annotated[Visibility, typer.Option(help="Who may see its pages")] = Visibility.PRIVATE,
) -> None:
    """Add a project."""
    values: dict[str, Any] = {"description": description, "details": details, "visibility": visibility.value}
    values["needs"] = _needs(needs)
    if workflow_file is not None:
        values["workflow"] = _text_of(workflow_file)
        looks_like = workflow_file.name.startswith("Snakefile") or workflow_file.suffix == ".smk"
        workflow_type = workflow_type or (WorkflowType.SNAKEMAKE if looks_like else WorkflowType.SCRIPT)
    if workflow_type is not None:
        values["workflow_type"] = workflow_type.value
    with connected(settings) as (client, _):
        _say_slug(client.create_project(name=name, **values))


@needs_server
def add_dataset(
    project: Annotated[str, typer.Argument(help="The project's slug")],
    name: Annotated[str, typer.Argument(help="The dataset's name")],
    settings: ClientSettings,
    description: Description = "",
    details: Details = "",
    needs: Annotated[
        str, typer.Option(help="What it asks of a machine, in place of what its project asks; 'none' asks nothing")
    ] = "",
    locked: Annotated[bool, typer.Option("--locked", help="Hold it: nobody claims it until it is let go")] = False,
) -> None:
    """Add a dataset to a project. Its files go to the `base_file_path` that is printed."""
    values = {"description": description, "details": details, "needs": _needs(needs), "locked": locked}
    with connected(settings) as (client, _):
        made = client.create_dataset(parent=project, name=name, **values)
        _say_slug(made)
        console(stderr=True).print(shown(f"files: {made['base_file_path']}/"), soft_wrap=True)


@needs_server
def add_item(
    parent: Annotated[str, typer.Argument(help="The slug of the item, dataset or project above it")],
    name: Annotated[str, typer.Argument(help="The item's name")],
    settings: ClientSettings,
    description: Description = "",
    details: Details = "",
) -> None:
    """Add an item to a project, a dataset or another item."""
    with connected(settings) as (client, _):
        _say_slug(client.create_item(parent=parent, name=name, description=description, details=details))


def _add_attribute(kind: AttributeKind) -> Callable[..., None]:
    def command(item: str, key: str, settings: ClientSettings, **values: str) -> None:
        with connected(settings) as (client, _):
            client.create_attribute(kind.name, item=item, key=key, **parse_attribute(kind, values))

    parameters = {
        "item": Annotated[str, typer.Argument(help="The slug of the item, dataset or project")],
        "key": Annotated[str, typer.Argument(help="The attribute's name")],
        "settings": ClientSettings,
        **{name: Annotated[str, typer.Argument(help=kind.help)] for name in kind.fields},
    }
    keyword = inspect.Parameter.KEYWORD_ONLY
    command.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [inspect.Parameter(name, keyword, annotation=annotation) for name, annotation in parameters.items()]
    )
    command.__doc__ = f"Add an attribute that is {kind.help}."
    return needs_server(command)


def parse_attribute(kind: AttributeKind, values: dict[str, str]) -> dict[str, Any]:
    """The words of a command line as what goes on the wire. Raises UsageError naming the word that does not fit."""
    words = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
    parsers: dict[type, Callable[[str], Any]] = {
        bool: lambda text: words[text.lower()],
        float: _finite,
        dt.date: lambda text: dt.date.fromisoformat(text).isoformat(),
        dt.datetime: lambda text: dt.datetime.fromisoformat(text).isoformat(),
    }
    parsed = {}
    for name, text in values.items():
        try:
            parsed[name] = parsers.get(kind.python, kind.python)(text)
        except (KeyError, ValueError, OverflowError):
            raise UsageError(f"{name}: {text!r} is not {kind.help}") from None
    return parsed


@takes_settings("directory")
def diagnostics(settings: ClientSettings, json_: AsJson = False) -> None:
    """Show what a run on this machine tells the server of it."""
    from crunch_tasks.compute.diagnostics import diagnostics as collect

    # Before the first run the directory is not there; its disk is that of the folder which it will be made in.
    facts = collect(next(folder for folder in (settings.directory, *settings.directory.parents) if folder.exists()))
    if json_:
        sys.stdout.write(json.dumps(facts) + "\n")
        return
    table = Table(box=None, show_header=False, pad_edge=False)
    for name, value in facts.items():
        table.add_row(name, decimal(value) if name.startswith(("memory", "disk")) else cell(str(value)))
    console().print(table)


def add_commands(app: typer.Typer) -> None:
    """Put all of this file's commands on `app`, one `add-WORD-attribute` for each kind of the registry."""
    for name, command in {
        "diagnostics": diagnostics,
        "add-project": add_project,
        "add-dataset": add_dataset,
        "add-item": add_item,
        **{f"add-{kind.word}-attribute": _add_attribute(kind) for kind in ATTRIBUTE_KINDS},
    }.items():
        # A latitude may be -33.9 and a key may begin with a dash: what is no option of ours is an argument.
        app.command(name=name, context_settings={"ignore_unknown_options": name.endswith("attribute")})(command)


def _finite(text: str) -> float:
    """JSON has neither NaN nor infinity."""
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(text)
    return number


def _text_of(workflow_file: Path) -> str:
    try:
        text = workflow_file.read_bytes().decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"--workflow-file {workflow_file}: cannot be read as text: {error}") from None
    if not text.strip():
        raise UsageError(f"--workflow-file {workflow_file}: the file is empty. Write the workflow in it first.")
    return text


def _needs(text: str) -> str:
    try:
        return canonical(text)
    except ValueError as error:
        raise UsageError(f"--needs: {error}") from None


def _say_slug(made: Mapping[str, Any]) -> None:
    sys.stdout.write(f"{made['slug']}\n")
