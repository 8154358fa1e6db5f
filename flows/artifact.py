"""What the Prefect UI shows of a run beside its states: what changed, and the way to the dataset's page."""

from __future__ import annotations

import httpx
from prefect.artifacts import create_markdown_artifact
from prefect.exceptions import PrefectException
from prefect.logging import get_run_logger

from crunch_tasks.files.manifest import Diff, Manifest, diff
from crunch_tasks.run import DatasetRun

ROWS = 50


def publish_summary(run: DatasetRun) -> None:
    """The run's manifest summary as an artifact of its flow run. Prefect being away is no reason to fail a run."""
    try:
        create_markdown_artifact(
            markdown=summary(run.claim.slug, run.page_url, run.setup_manifest, run.final_manifest),
            key=f"manifest-{run.dataset_id}",
            description=f"What the run of {run.claim.slug} changed",
        )
    except (PrefectException, httpx.HTTPError, OSError) as error:
        get_run_logger().warning("The manifest summary is not in Prefect: %s", error)


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
