"""What Prefect shows of a run beside its states: transfers as they go, what changed, and all files at its end."""

from __future__ import annotations

import contextvars
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from uuid import UUID

import httpx
from prefect.artifacts import (
    create_markdown_artifact,
    create_progress_artifact,
    create_table_artifact,
    update_progress_artifact,
)
from prefect.exceptions import PrefectException
from prefect.logging import get_logger

from crunch_tasks.contract import Stage
from crunch_tasks.files.manifest import Diff, Manifest, diff
from crunch_tasks.files.transfer import Progress
from crunch_tasks.run import DatasetRun

ROWS = 50
TABLE_ROWS = 1000
"""The most files that the table of a manifest has; Prefect sends it whole to every browser."""

FIRST_AFTER_S = 3.0
EVERY_S = 5.0
"""A transfer is shown once it has taken the first, and anew each time the second has passed."""


@contextmanager
def _courtesy(what: str) -> Iterator[None]:
    """Prefect being away is no reason to fail a run."""
    try:
        yield
    except (PrefectException, httpx.HTTPError, OSError) as error:
        get_logger("crunch").warning("%s is not in Prefect: %s", what, error)


class TransferWatch:
    """Shows long transfers of a flow run as progress artifacts; made inside of it, called from any thread."""

    def __init__(self, slug: str, dataset_id: int) -> None:
        self._slug = slug
        self._dataset_id = dataset_id
        # Threads of a transfer do not know which flow run they work for.
        self._context = contextvars.copy_context()
        self._lock = threading.Lock()
        self._artifacts: dict[Stage, UUID] = {}
        self._shown = 0.0

    def __call__(self, stage: Stage, state: Progress) -> None:
        is_done = state.files_done == state.files
        # One thread shows it while the others go on; the end is not to be missed.
        if not self._lock.acquire(blocking=is_done):
            return
        try:
            is_due = state.seconds >= FIRST_AFTER_S and time.monotonic() - self._shown >= EVERY_S
            if is_due or (is_done and stage in self._artifacts):
                self._shown = time.monotonic()
                percent = 100.0 * state.bytes_done / state.bytes if state.bytes else 100.0
                with _courtesy("A transfer's progress"):
                    self._context.copy().run(self._show, stage, min(percent, 100.0))
        finally:
            self._lock.release()

    def _show(self, stage: Stage, percent: float) -> None:
        if stage in self._artifacts:
            update_progress_artifact(self._artifacts[stage], progress=percent)
            return
        name = stage.name.lower()
        made = create_progress_artifact(
            percent, key=f"{name}-{self._dataset_id}", description=f"Files of {self._slug} in {stage.name.capitalize()}"
        )
        if isinstance(made, UUID):
            self._artifacts[stage] = made


def summary_beside(run: DatasetRun) -> threading.Thread:
    """Publish the summary in a thread, which is returned: what ends the run need not wait for it."""
    context = contextvars.copy_context()
    thread = threading.Thread(target=context.run, args=(publish_summary, run), name="summary", daemon=True)
    thread.start()
    return thread


def publish_summary(run: DatasetRun) -> None:
    """What the run changed, and all files of the dataset as it is now, as artifacts of its flow run."""
    slug = run.claim.slug
    with _courtesy("The manifest"):
        create_markdown_artifact(
            markdown=summary(slug, run.page_url, run.setup_manifest, run.final_manifest),
            key=f"changes-{run.dataset_id}",
            description=f"What the run of {slug} changed",
        )
        more = len(run.final_manifest) - TABLE_ROWS
        create_table_artifact(
            table=table(run.setup_manifest, run.final_manifest),
            key=f"manifest-{run.dataset_id}",
            description=f"The files of {slug} at its end" + (f", the first {TABLE_ROWS}" if more > 0 else ""),
        )


def table(before: Manifest, after: Manifest) -> list[dict[str, str | int]]:
    """The files of `after` by path, with what became of them since `before`, TABLE_ROWS of them at most."""
    change = diff(before, after)
    what = dict.fromkeys(change.added, "new") | dict.fromkeys(change.modified, "modified")
    paths = sorted(after)[:TABLE_ROWS]
    return [
        {"file": path, "bytes": after[path].size, "MD5": after[path].md5, "change": what.get(path, "")}
        for path in paths
    ]


def summary(slug: str, page_url: str, before: Manifest, after: Manifest) -> str:
    """The change from `before` to `after` in Markdown, at most ROWS files of it by name."""
    change = diff(before, after)
    counts = ", ".join(f"{count} {what}" for what, count in change.stats.items())
    heading = f"[{slug}]({page_url})" if page_url else slug
    lines = [f"### {heading}", "", f"{len(after)} files, {after.size:,} bytes: {counts}.", ""]
    rows = _rows(change, after)
    if rows:
        lines += ["| | file | bytes | MD5 |", "|---|---|---:|---|", *rows[:ROWS]]
    if len(rows) > ROWS:
        lines += ["", f"and {len(rows) - ROWS} more"]
    return "\n".join(lines)


def _rows(change: Diff, after: Manifest) -> list[str]:
    present = [("new", path) for path in change.added] + [("modified", path) for path in change.modified]
    rows = [f"| {what} | {_cell(path)} | {after[path].size} | {after[path].md5} |" for what, path in present]
    return rows + [f"| deleted | {_cell(path)} | | |" for path in change.deleted]


def _cell(path: str) -> str:
    # A name is hostile: no Markdown, no table cell, no tag and no link (`www.`) may come of it.
    return "".join(
        character if character.isalnum() or character in " /-" else f"&#{ord(character)};" for character in path
    )
