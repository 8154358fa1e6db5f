"""From the storage into the workspace: what is not there and right is fetched, and all of it is on the disk then.

What to fetch is decided in `plan`, how one file comes is in `fetching`.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from crunch_tasks.errors import NoRoom
from crunch_tasks.files import tree
from crunch_tasks.files.checksums import hash_walked
from crunch_tasks.files.fetching import Fetcher, partial_name
from crunch_tasks.files.parallel import Check, in_parallel
from crunch_tasks.files.paths import refuse_bad_names
from crunch_tasks.files.plan import LocalFile, Source, what_to_fetch
from crunch_tasks.files.storage import LARGE, Storage
from crunch_tasks.files.transfer import Meter, Tell, TransferReport, in_lanes, nobody
from crunch_tasks.files.walking import FileStat, Walk
from crunch_tasks.files.workspace import Workspace


@dataclass(frozen=True)
class Downloaded(TransferReport):
    """What a download did, with `skipped` files that were right already, and what the workspace has now."""

    skipped: int
    walk: Walk


def download(
    storage: Storage,
    sources: Mapping[str, Source],
    workspace: Workspace,
    *,
    check: Check = lambda: None,
    progress: Tell = nobody,
) -> Downloaded:
    """Bring every source to its path in the workspace; what is there and right is not fetched again.

    Everything is on the disk when this returns. Raises NamesRefused before anything is written, WorkspaceError when
    the disk is too small or cannot be written, TransferError, naming the object with both sums, when one cannot be
    had right.
    """
    sources, walk, wanted = look(storage, sources, workspace, check=check)
    _keep_partials(workspace.partial, [sources[path] for path in wanted])
    size = sum(sources[path].size for path in wanted)
    _check_space(workspace, [sources[path].size for path in wanted])
    fetcher = Fetcher(storage, workspace, Meter(len(wanted), size, progress))
    kept = sources.keys() - set(wanted)
    try:
        retimed = [path for path in kept if _restore_mtime(workspace, path, walk.files[path], sources[path])]
        in_lanes(
            lambda path, check: fetcher.fetch(path, sources[path], check),
            {path: sources[path].size for path in wanted},
            storage,
            check,
        )
        if wanted or retimed:
            tree.sync(workspace.root)
            walk = workspace.walk()
            _remember(workspace, walk, sources, fetcher.sums)
    finally:
        workspace.hashes.save()
    return Downloaded(len(wanted), size, len(kept), walk)


def look(
    storage: Storage, sources: Mapping[str, Source], workspace: Workspace, *, check: Check = lambda: None
) -> tuple[Mapping[str, Source], Walk, list[str]]:
    """The sources with all that is known of them, what the workspace has, and the paths to fetch; changes nothing.

    Raises NamesRefused, and WorkspaceError for what cannot be read.
    """
    refuse_bad_names(sources, folds=workspace.folds)
    sources = _with_known_sums(sources, workspace)
    walk = workspace.walk()
    local = _local_files(walk, sources, workspace, storage.parallel, check)
    return sources, walk, what_to_fetch(local, sources)


def _remember(workspace: Workspace, walk: Walk, sources: Mapping[str, Source], sums: Mapping[str, str]) -> None:
    """Keep the MD5s of what was fetched, for the files that are still as they were written."""
    for path, md5 in sums.items():
        here = walk.files.get(path)
        if here and here.target is None and (here.size, here.mtime_ns) == (sources[path].size, sources[path].mtime_ns):
            workspace.hashes.put(path, here, md5)


def _with_known_sums(sources: Mapping[str, Source], workspace: Workspace) -> dict[str, Source]:
    known = workspace.known
    return {
        path: source if source.md5 else replace(source, md5=known.md5(source.key, source.size, source.tag))
        for path, source in sources.items()
    }


def _local_files(
    walk: Walk, sources: Mapping[str, Source], workspace: Workspace, parallel: int, check: Check
) -> dict[str, LocalFile]:
    """The regular files that are there for these sources, hashed where size and sum could match."""

    found, unknown = {}, []
    for path, source in sources.items():
        here = walk.files.get(path)
        if here is None:
            continue
        # A link is to become the file itself.
        found[path] = LocalFile(here.size, None if here.target else workspace.hashes.get(path, here))
        is_candidate = here.target is None and here.size == source.size and source.md5 is not None
        if is_candidate and found[path].md5 is None:
            unknown.append(path)

    def look(path: str, check: Check) -> LocalFile:
        check()
        here = walk.files[path]
        return LocalFile(here.size, hash_walked(workspace.root, path, here, workspace.hashes, check))

    return found | dict(zip(unknown, in_parallel(look, unknown, parallel, check), strict=True))


def _restore_mtime(workspace: Workspace, path: str, here: FileStat, source: Source) -> bool:
    """Whether it had another time."""
    if source.mtime_ns is None or source.mtime_ns == here.mtime_ns:
        return False
    status = tree.set_mtime(workspace.root, path, source.mtime_ns)
    if source.md5 is not None:
        workspace.hashes.put(path, status, source.md5)
    return True


def _check_space(workspace: Workspace, sizes: list[int]) -> None:
    """Compare what is to come, in whole blocks and less what is in partial files already, with the free disk.

    What is to stay free of it is part of what is needed.
    """
    disk = os.statvfs(workspace.partial)
    here = sum(file.stat().st_size for file in workspace.partial.iterdir())
    blocks = sum(-(-size // disk.f_frsize) for size in sizes)
    needed, free = blocks * disk.f_frsize - here + workspace.low_water, workspace.free_bytes()
    if sizes and needed > free:
        raise NoRoom(
            f"The disk of {workspace.root} is too small: with the {workspace.low_water} that stay free "
            f"(CRUNCH_LOW_WATER) {needed} bytes are needed, {free} are free. "
            f"Make room, or {workspace.remedy}."
        )
    if disk.f_files and len(sizes) > disk.f_favail:
        raise NoRoom(
            f"The disk of {workspace.root} has room for {disk.f_favail} more files, and {len(sizes)} are to come. "
            f"Make room, or {workspace.remedy}."
        )


def _keep_partials(folder: Path, wanted: list[Source]) -> None:
    """Remove what killed runs left, but for parts of these; the workspace's lock says that nobody is using it."""
    folder.mkdir(parents=True, exist_ok=True)
    keep = {partial_name(source) for source in wanted if source.size > LARGE}
    for entry in folder.iterdir():
        if entry.name not in keep:
            shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
