"""A moving bar for transfers: files, bytes, rate and remaining time; nothing where no person is watching."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn
from rich.table import Column

from crunch_tasks.files import transfer
from flows.terminal import console


@contextmanager
def transfer_bar(what: str, *, quiet: bool = False, to: Console | None = None) -> Iterator[transfer.Tell]:
    """What to tell of a transfer while a bar called `what` shows it on stderr; `quiet` shows nothing."""
    to = to or console(stderr=True)
    # Where it is narrow the bar is what gives way, and then the name.
    columns = (
        TextColumn("{task.description}", table_column=Column(no_wrap=True, overflow="ellipsis")),
        BarColumn(bar_width=None),
        TextColumn("{task.fields[files]} files", table_column=Column(no_wrap=True)),
        DownloadColumn(table_column=Column(no_wrap=True)),
        TransferSpeedColumn(table_column=Column(no_wrap=True)),
        TimeRemainingColumn(table_column=Column(no_wrap=True)),
    )
    with Progress(*columns, console=to, transient=True, disable=quiet or not to.is_terminal) as bar:
        task = bar.add_task(what, total=None, files="0")

        def tell(state: transfer.Progress) -> None:
            files = f"{state.files_done}/{state.files}"
            bar.update(task, completed=state.bytes_done, total=state.bytes, files=files)

        yield tell
