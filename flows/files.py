"""The commands for a dataset's files: list, push, pull, verify."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.filesize import decimal
from rich.table import Table

from crunch_tasks.contract import DatasetState
from crunch_tasks.durable import write_durably
from crunch_tasks.errors import UsageError
from crunch_tasks.files.transfer import Progress, Tell
from crunch_tasks.settings import ClientSettings
from flows.bars import transfer_bar
from flows.connection import connected
from flows.options import takes_settings
from flows.terminal import AsJson, cell, console, line, shown

if TYPE_CHECKING:
    from crunch_tasks.files.workspace import OwnFolder
    from crunch_tasks.link.client import CrunchClient

Slug = Annotated[str, typer.Argument(help="The dataset's slug", metavar="SLUG")]
needs_files = takes_settings("url", "token", "storage_settings")
needs_folder = takes_settings("url", "token", "storage_settings", "directory")


@needs_files
def files(slug: Slug, settings: ClientSettings, json_: AsJson = False) -> None:
    """List a dataset's files: as last published or, before that, as they are in the storage.

    Until the dataset is completed, files that were added since it was published are listed too.
    """
    from crunch_tasks.files.opening import open_storage
    from crunch_tasks.files.reading import list_files, shows_added

    with connected(settings, "storage_settings") as (client, complete):
        dataset = client.get_dataset(slug)
    listed = list_files(open_storage(complete.storage_config()), dataset, added=shows_added(dataset))
    if json_:
        rows = [{"path": path, "size": source.size, "md5": source.md5} for path, source in listed.files.items()]
        sys.stdout.write(json.dumps(rows, ensure_ascii=False) + "\n")
        return
    table = Table("path", "size", "MD5", box=None, pad_edge=False)
    for path, source in listed.files.items():
        table.add_row(cell(path), decimal(source.size), source.md5 or "")
    size = decimal(sum(source.size for source in listed.files.values()))
    source_of = "as published" if listed.published else "as in the storage"
    if listed.added:
        source_of = f"as published, and {listed.added} added since"
    # The last line is no caption of the table, which may be narrower.
    if listed.files:
        console().print(table)
    console().print(shown(f"{slug}: {len(listed.files)} files, {size}, {source_of}"), soft_wrap=True)
    for path, problem in listed.problems.items():
        console(stderr=True).print(shown(f"{path!r} cannot be kept: {problem}"), soft_wrap=True)


@needs_folder
def push(
    slug: Slug,
    folder: Annotated[
        Path, typer.Argument(help="The folder with the files", metavar="DIR", exists=True, file_okay=False)
    ],
    settings: ClientSettings,
    json_: AsJson = False,
) -> None:
    """Send a folder's files to a dataset, as inputs of its next run.

    What is there already is not sent again, so an interrupted push goes on where it was. Nobody claims the dataset
    meanwhile.
    """
    from crunch_tasks.files import copies
    from crunch_tasks.files.opening import open_storage
    from crunch_tasks.files.workspace import OwnFolder

    with connected(settings, "storage_settings") as (client, complete):
        own = OwnFolder(complete.directory, slug, folder)
        storage = open_storage(complete.storage_config())
        with (
            own.lock(),
            own.lock_dataset(),
            transfer_bar(f"push {slug}", quiet=json_) as bar,
            _on_hold(client, own, bar) as (dataset, tell),
        ):
            done = copies.push(storage, dataset, own, progress=tell)
    for sentence in done.refused:
        _say(f"Not sent: {sentence}")
    _say(
        f"{done.sent} files sent ({decimal(done.bytes)}), {done.replaced} of them in place of an earlier one; "
        f"{done.skipped} were there already."
    )
    if json_:
        _print(
            {
                "sent": done.sent,
                "bytes": done.bytes,
                "replaced": done.replaced,
                "skipped": done.skipped,
                "refused": done.refused,
            }
        )


@contextmanager
def _on_hold(client: CrunchClient, folder: OwnFolder, bar: Tell) -> Iterator[tuple[Mapping[str, Any], Tell]]:
    """The dataset, held while its files arrive, and what to tell of the transfer.

    A dataset with a part of its files stays held: whoever pushes the rest lets it go, if no person held it before.
    """
    from crunch_tasks.files.workspace import HELD_BY_PUSH

    slug, ours = folder.slug, folder.of_dataset / HELD_BY_PUSH
    has_begun = False

    def tell(state: Progress) -> None:
        nonlocal has_begun
        has_begun = has_begun or state.files_done > 0
        bar(state)

    def let_go() -> None:
        if ours.exists():
            client.hold(slug, locked=False)
            ours.unlink()
        else:
            _say(f"{slug} stays held, as it was before. Let it go on its page when all of its files are there.")

    if not client.get_dataset(slug)["locked"]:
        write_durably(ours, b"")
    dataset = client.hold(slug, locked=True)
    if dataset["state"] == DatasetState.RUNNING.value:
        let_go()
        raise UsageError(f"{slug} is being processed. Push when that is over, or cancel it on its page first.")
    try:
        yield dataset, tell
    except BaseException:
        if has_begun:
            _say(f"{slug} is held, as it has a part of its files. Push again to send the rest and let it go.")
        else:
            let_go()
        raise
    let_go()


@needs_folder
def pull(
    slug: Slug,
    folder: Annotated[
        Path, typer.Argument(help="The folder for the files; made if need be", metavar="DIR", file_okay=False)
    ],
    settings: ClientSettings,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace files that are there and differ")] = False,
    json_: AsJson = False,
) -> None:
    """Fetch a dataset's files, those that `crunch files` lists.

    What is there and right is not fetched again, and an interrupted pull goes on where it was.
    """
    from crunch_tasks.files import copies
    from crunch_tasks.files.opening import open_storage
    from crunch_tasks.files.workspace import OwnFolder

    with connected(settings, "storage_settings") as (client, complete):
        dataset = client.get_dataset(slug)
    own = OwnFolder(complete.directory, slug, folder, low_water=complete.low_water)
    storage = open_storage(complete.storage_config())
    with own.lock(), transfer_bar(f"pull {slug}", quiet=json_) as tell:
        done = copies.pull(storage, dataset, own, overwrite=overwrite, progress=tell)
    _say(f"{done.moved} files fetched ({decimal(done.bytes)}) into {own.root}; {done.skipped} were right already.")
    if json_:
        _print({"fetched": done.moved, "bytes": done.bytes, "skipped": done.skipped})


@needs_folder
def verify(
    slug: Slug,
    settings: ClientSettings,
    folder: Annotated[
        Path | None, typer.Argument(help="The folder to compare", metavar="DIR", exists=True, file_okay=False)
    ] = None,
    json_: AsJson = False,
) -> None:
    """Compare a folder, or the storage itself, with the dataset's files, by size and MD5.

    One line per path: = same, - missing here, + missing there, * differs, ! error. Here is DIR and there are the
    dataset's files; without DIR, here is the storage and there what the last run published. Exit code 1 unless all are
    the same.
    """
    from crunch_tasks.files import comparison
    from crunch_tasks.files.opening import open_storage
    from crunch_tasks.files.workspace import OwnFolder

    with connected(settings, "storage_settings") as (client, complete):
        dataset = client.get_dataset(slug)
    storage = open_storage(complete.storage_config())
    if folder is None:
        rows = comparison.compare_storage(storage, dataset)
    else:
        own = OwnFolder(complete.directory, slug, folder)
        with own.lock():
            rows = comparison.compare_folder(storage, dataset, own)
    counts = Counter(row.sign for row in rows)
    if json_:
        _print([{"path": row.path, "sign": row.sign.value, "problem": row.problem} for row in rows])
    else:
        for row in rows:
            sys.stdout.write(f"{row.sign.value} {line(row.path)}{': ' if row.problem else ''}{line(row.problem)}\n")
    names = {sign: sign.name.lower().replace("_", " ") for sign in comparison.Sign}
    _say(", ".join(f"{counts[sign]} {names[sign]}" for sign in comparison.Sign if counts[sign]) or "no files")
    if counts.keys() - {comparison.Sign.SAME}:
        raise typer.Exit(1)


def _say(sentence: str) -> None:
    console(stderr=True).print(shown(sentence), soft_wrap=True)


def _print(value: object) -> None:
    sys.stdout.write(json.dumps(value, ensure_ascii=False) + "\n")


def add_commands(app: typer.Typer) -> None:
    """Put this file's commands on `app`."""
    for command in (files, push, pull, verify):
        app.command()(command)
