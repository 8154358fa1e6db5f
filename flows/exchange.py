"""The commands that bring many datasets to a project and out of it: import, export."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from crunch_tasks.errors import CrunchError, Refused, UsageError
from crunch_tasks.settings import ClientSettings
from flows import rows
from flows.apart import collisions
from flows.connection import connected
from flows.of_project import OfProject
from flows.options import takes_settings
from flows.terminal import AsJson, console, line, shown

if TYPE_CHECKING:
    from crunch_tasks.link.client import CrunchClient

AT_ONCE = 2000
"""Datasets of one call, as long as they are not large."""

AT_ONCE_BYTES = 8 * 1024 * 1024
AT_ONCE_ATTRIBUTES = 50_000
TOLD = 20
"""How many of a long list of problems or names are told."""

needs_server = takes_settings("url", "token")


@needs_server
def import_(
    file: Annotated[Path, typer.Argument(help="A CSV or JSONL file, a dataset a line", metavar="FILE")],
    settings: ClientSettings,
    project: Annotated[str, typer.Option("--project", help="The project that gets the datasets (its slug)")],
    format_: Annotated[
        rows.Format | None, typer.Option("--format", help="What FILE is, if its name does not end so")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Change nothing, and tell what would be made")] = False,
    json_: AsJson = False,
) -> None:
    """Add a file's datasets, with their attributes and places, to a project.

    A dataset that is there already is left as it is, so that the same file can be imported twice. Nothing is added
    unless every line is right.

    CSV has the columns name, and description, details, locked, priority, needs and base_file_path where you need them.
    Every other column is an attribute, KEY or KEY:KIND; its kind, if not named, is the one that fits all of its values.
    The columns latitude and longitude are a place. JSONL has an object a line, such as
    {"name": ..., "attributes": {KEY: VALUE}}.

    The slugs of what was added are printed, a line each; at a terminal only the first of many.
    """
    found = _rows_of(file, format_)
    if wrong := collisions(found):
        raise UsageError(_told(f"{file}: nothing was added.", wrong))
    created, existing = [], []
    with connected(settings) as (client, _):
        calls = list(_calls(found))
        # Of more than one call, none is made before all are known to be right.
        for trial in (True,) if dry_run else (True, False) if len(calls) > 1 else (False,):
            answers = _send_all(client, project, file, calls, dry_run=trial)
            created = [str(made["slug"]) for answer in answers for made in answer["created"]]
            existing = [str(slug) for answer in answers for slug in answer["existing"]]
    if json_:
        answer = {"dry_run": dry_run, "created": created, "existing": existing}
        sys.stdout.write(json.dumps(answer, ensure_ascii=False) + "\n")
        return
    # A script takes them all; a person sees that they are right.
    told = created[:TOLD] if sys.stdout.isatty() else created
    sys.stdout.writelines(f"{line(slug)}\n" for slug in told)
    if len(told) < len(created):
        _say(f"and {len(created) - TOLD} more; --json tells all of them.")
    _say(f"{len(created)} datasets {'would be' if dry_run else 'were'} added to {project}; {_kinds(found)}.")
    if existing:
        names = ", ".join(existing[:TOLD]) + (", ..." if len(existing) > TOLD else "")
        _say(f"{len(existing)} are there already, and stay as they are: {names}")


@needs_server
def export(
    settings: ClientSettings,
    project: Annotated[str, typer.Option("--project", help="The project whose datasets are wanted (its slug)")],
    format_: Annotated[rows.Format, typer.Option("--format", help="What to write")] = rows.Format.CSV,
) -> None:
    """Write a project's datasets with their attributes to standard output, as `crunch import` takes them."""
    with connected(settings) as (client, _):
        found = (rows.from_wire(dataset) for dataset in client.pages("api/datasets/", project=project))
        if format_ is rows.Format.CSV:
            sys.stdout.writelines(rows.to_csv(list(found)))
        else:
            sys.stdout.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in found)


def _rows_of(file: Path, format_: rows.Format | None) -> list[rows.Row]:
    """The file's rows. Raises UsageError naming the file and the line."""
    suffix = file.suffix.lower().removeprefix(".")
    if format_ is None and suffix not in list(rows.Format):
        raise UsageError(f"{file}: it is not told whether this is CSV or JSONL. Give --format csv or --format jsonl.")
    try:
        # A table program's CSV may begin with a byte order mark.
        text = file.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise UsageError(f"{file}: {error.strerror}.") from None
    except UnicodeDecodeError as error:
        raise UsageError(f"{file}: it is not text in UTF-8: {error}") from None
    try:
        found = rows.read(text, format_ or rows.Format(suffix))
    except UsageError as error:
        raise UsageError(f"{file}: {error}") from None
    if not found:
        raise UsageError(f"{file}: there is no dataset in it.")
    return found


def _calls(found: Sequence[rows.Row]) -> Iterator[list[rows.Row]]:
    """The rows in portions that the server takes.

    Those that ask for a folder come first, so that none of the others, which go where there is room, gets it.
    """
    portion: list[rows.Row] = []
    size = attributes = 0
    for row in sorted(found, key=lambda row: not row.values.get("base_file_path")):
        size += len(json.dumps(row.to_wire()))
        attributes += len(row.attributes)
        if portion and (len(portion) == AT_ONCE or size > AT_ONCE_BYTES or attributes > AT_ONCE_ATTRIBUTES):
            yield portion
            portion, size, attributes = [], len(json.dumps(row.to_wire())), len(row.attributes)
        portion.append(row)
    if portion:
        yield portion


def _send_all(
    client: CrunchClient, project: str, file: Path, calls: Sequence[Sequence[rows.Row]], *, dry_run: bool
) -> list[Mapping[str, Any]]:
    """The answers. Raises UsageError with all that is wrong, by line of the file.

    When not all could be sent, whatever the reason, the error says how many datasets were added before.
    """
    answers: list[Mapping[str, Any]] = []
    refused: list[tuple[rows.Row, Mapping[str, Sequence[str]]]] = []
    for portion in calls:
        datasets = [row.to_wire() for row in portion]
        try:
            answers.append(client.create_datasets(project, datasets, skip_existing=True, dry_run=dry_run))
        except CrunchError as error:
            body = error.body if isinstance(error, Refused) else None
            wrong = body.get("rows") if isinstance(body, dict) else None
            if not wrong:
                if begun := _begun(answers, dry_run=dry_run):
                    _say(begun)
                raise
            refused += [(portion[one["row"] - 1], one["errors"]) for one in wrong]
    if refused:
        lines = [_of_row(row, errors) for row, errors in sorted(refused, key=lambda one: one[0].line)]
        raise UsageError(_told(f"{file}: {_begun(answers, dry_run=dry_run) or 'nothing was added.'}", lines))
    return answers


def _begun(answers: Sequence[Mapping[str, Any]], *, dry_run: bool) -> str:
    """What was done by a command that cannot do all; empty when it is nothing."""
    added = 0 if dry_run else sum(len(answer["created"]) for answer in answers)
    return f"{added} datasets were added, not all. Import the file again to go on where it was." if added else ""


def _told(head: str, lines: Sequence[str]) -> str:
    more = [f"and {len(lines) - TOLD} lines more"] if len(lines) > TOLD else []
    return "\n".join([head, *lines[:TOLD], *more])


def _of_row(row: rows.Row, errors: Mapping[str, Sequence[str]]) -> str:
    """What is wrong in a row; with what to do if it may be the kind that was inferred."""
    refused = [
        key for key in sorted(row.inferred) if any(told.startswith(f"{key}: ") for told in errors.get("attributes", ()))
    ]
    hints = [
        f'That is the kind that fits all values of {key}; {key}:char in a CSV\'s header, or "kind": "char" with a text'
        " in JSONL, takes it as it is."
        for key in refused
    ]
    return " ".join([f"line {row.line}: {_sentence(errors)}", *hints])


def _sentence(errors: Mapping[str, Sequence[str]]) -> str:
    return " ".join(f"{name}: {' '.join(told)}" for name, told in errors.items())


def _kinds(found: Sequence[rows.Row]) -> str:
    """Which attributes there are, and of which kind."""
    kinds = {f"{one.get('key')} ({one.get('kind', 'lat-long')})": None for row in found for one in row.attributes}
    told = ", ".join(list(kinds)[:TOLD]) + (", ..." if len(kinds) > TOLD else "")
    return f"attributes: {told}" if told else "no attributes"


def _say(sentence: str) -> None:
    console(stderr=True).print(shown(sentence), soft_wrap=True)


def add_commands(app: typer.Typer) -> None:
    """Put this file's commands on `app`."""
    app.command(name="import", cls=OfProject)(import_)
    app.command(cls=OfProject)(export)
