"""What earlier commands left in a directory, one workspace after the other: removed where that is safe."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any

from crunch_tasks.durable import STATE_FOLDER
from crunch_tasks.errors import Refused, StorageError, WorkspaceError
from crunch_tasks.files.cleaning import (
    Remains,
    finish_removals,
    is_being_removed,
    look,
    published_sums,
    remove,
    remove_state,
    some_of,
    why_it_stays,
)
from crunch_tasks.files.disk import bytes_on_disk
from crunch_tasks.files.storage import Storage
from crunch_tasks.files.workspace import HELD_BY_PUSH, OWN_FOLDERS, Workspace, bound_to, held
from crunch_tasks.link.claims import Claims
from crunch_tasks.link.client import CrunchClient
from crunch_tasks.link.outbox import Outbox

RECORD_DAYS = 30
"""How long after the last push, pull or verify of a folder what is remembered of it stays, in days."""


@dataclass(frozen=True)
class Looked:
    """One thing that was looked at: its bytes on the disk, and why it stays, "" when it went (or would have)."""

    name: str
    path: str
    bytes: int
    why: str = ""


def clean_directory(
    client: CrunchClient, storage: Storage, claims: Claims, directory: Path, *, dry_run: bool
) -> Iterator[Looked]:
    """Remove what is safe to remove, and tell of each thing that is there; with `dry_run` only tell.

    Raises ServerError when the server does not answer.
    """
    states = directory / STATE_FOLDER
    if not dry_run:
        finish_removals(states)
    unfinished = _unfinished(claims)
    for state in sorted(path for path in states.glob("*/*") if path.is_dir()):
        above = state.parent.name
        if above == OWN_FOLDERS:
            yield _clean_record(state, dry_run=dry_run)
        elif not is_being_removed(state):
            workspace = Workspace(directory, f"{above}:{state.name}")
            yield _clean_run(client, storage, workspace, is_unfinished=workspace.slug in unfinished, dry_run=dry_run)


def _unfinished(claims: Claims) -> set[str]:
    """The datasets whose claims dead commands left."""
    slugs = set()
    for request in claims.leftovers():
        with request:
            if request.granted is not None:
                slugs.add(request.granted.slug)
    return slugs


def _clean_run(
    client: CrunchClient, storage: Storage, workspace: Workspace, *, is_unfinished: bool, dry_run: bool
) -> Looked:
    """Clean up after the runs of one dataset."""
    slug = workspace.slug
    try:
        # Before the lock: a loop that claims the dataset meanwhile would be refused.
        dataset = _dataset(client, slug)
        size = bytes_on_disk(workspace.root, workspace.state)
        with held(workspace.state) as holder:
            if holder:
                why = f"It is in use by {holder}."
            else:
                remains = _remains(workspace, is_unfinished)
                why = why_it_stays(remains, dataset) or _remove(storage, workspace, remains, dataset, dry_run=dry_run)
    except (WorkspaceError, StorageError, OSError) as error:
        return Looked(slug, str(workspace.root), 0, str(error))
    return Looked(slug, str(workspace.root), size, why)


def _dataset(client: CrunchClient, slug: str) -> Mapping[str, Any] | None:
    try:
        return client.get_dataset(slug)
    except Refused as error:
        if error.status == HTTPStatus.NOT_FOUND:
            return None
        raise


def _remains(workspace: Workspace, is_unfinished: bool) -> Remains:
    try:
        bound = bound_to(workspace.state)
    except FileNotFoundError:
        bound = None
    undelivered = len(Outbox(workspace.state).pending())
    return Remains(workspace.root, workspace.state, bound, undelivered, is_unfinished, workspace.has_files())


def _remove(
    storage: Storage, workspace: Workspace, remains: Remains, dataset: Mapping[str, Any] | None, *, dry_run: bool
) -> str:
    """Remove a held workspace, if all of its files may go, and its state; returns why not."""
    if remains.has_files and dataset is not None:
        verdict = look(workspace, published_sums(storage, dataset))
        # All or nothing: whoever finds out why one file is not in the storage needs the others too.
        stays = verdict.stays or (() if dry_run else remove(workspace, verdict))
        if stays:
            return f"{len(stays)} files are not in the storage as they are here: {some_of(stays)}"
    if not dry_run:
        with contextlib.suppress(OSError):
            workspace.root.rmdir()
        remove_state(workspace.state)
    return ""


def _clean_record(state: Path, *, dry_run: bool) -> Looked:
    """Remove what is remembered of a person's folder, or of pushes to a dataset: without it all is read anew once."""
    name, size = f"record {state.name[:12]} of a folder that was pushed, pulled or verified", bytes_on_disk(state)
    with held(state) as holder:
        # Looking at it has changed the time of its lock.
        times = [path.stat().st_mtime for path in state.iterdir() if path.name != "lock"]
        if holder:
            why = f"It is in use by {holder}."
        elif (state / HELD_BY_PUSH).exists():
            why = "A push was interrupted: push again to send the rest and let the dataset go."
        elif time.time() - max(times, default=0) < RECORD_DAYS * 86_400:
            why = f"It was used in the last {RECORD_DAYS} days."
        else:
            why = ""
            if not dry_run:
                remove_state(state)
    return Looked(name, str(state), size, why)
