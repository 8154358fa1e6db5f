"""`crunch clean`: remove what earlier runs left in the directory and the storage surely has; say why the rest stays."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer
from rich.filesize import decimal

from crunch_tasks.durable import STATE_FOLDER
from crunch_tasks.settings import ClientSettings
from flows.connection import check_directory_of_runs, connected
from flows.options import takes_settings
from flows.terminal import AsJson, console, line

if TYPE_CHECKING:
    from flows.remains import Looked


@takes_settings("url", "token", "storage_settings", "directory")
def clean(
    settings: ClientSettings,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only list what would be removed")] = False,
    json_: AsJson = False,
) -> None:
    """Remove what earlier runs left in the directory and is safe in the storage.

    A workspace goes if nobody works in it, all of its updates are delivered, the server says that its dataset is
    completed, and each of its files is in the storage as it is here. One line for each says why it stays, if it does.
    """
    from crunch_tasks.files.opening import open_storage
    from crunch_tasks.files.storage import check_reachable
    from crunch_tasks.files.workspace import check_directory
    from crunch_tasks.link.claims import Claims
    from flows.remains import clean_directory

    found: list[Looked] = []
    with connected(settings, "storage_settings") as (client, complete):
        check_directory_of_runs(client, complete)
        storage = open_storage(complete.storage_config())
        check_reachable(storage)
        if (complete.directory / STATE_FOLDER).is_dir():
            check_directory(complete.directory)
            claims = Claims(complete.directory, complete.url)
            for looked in clean_directory(client, storage, claims, complete.directory, dry_run=dry_run):
                found.append(looked)
                if not json_:
                    sys.stdout.write(_shown(looked, dry_run=dry_run))
    removed, kept = [row for row in found if not row.why], [row for row in found if row.why]
    freed = sum(row.bytes for row in removed)
    if json_:
        rows = {"removed": [asdict(row) for row in removed], "kept": [asdict(row) for row in kept]}
        sys.stdout.write(json.dumps({**rows, "bytes": freed, "dry_run": dry_run}, ensure_ascii=False) + "\n")
    said = "would be removed" if dry_run else "removed"
    console(stderr=True).print(f"{len(removed)} {said} ({decimal(freed)}), {len(kept)} kept.")


def _shown(row: Looked, *, dry_run: bool) -> str:
    what = "kept" if row.why else "would remove" if dry_run else "removed"
    return f"{what} {line(row.name)} ({decimal(row.bytes)}){': ' if row.why else ''}{line(row.why)}\n"
