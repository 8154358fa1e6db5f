"""From the workspace to the storage: each file read to its verified end before the storage publishes it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from io import FileIO

from crunch_tasks.crash import Point, reached
from crunch_tasks.errors import WorkspaceError
from crunch_tasks.files import tree
from crunch_tasks.files.checksums import FileContent, changed
from crunch_tasks.files.manifest import Entry, Manifest
from crunch_tasks.files.parallel import Check, Width
from crunch_tasks.files.storage import LARGE, ObjectInfo, Storage
from crunch_tasks.files.transfer import MayWrite, Meter, Tell, TransferReport, in_lanes, nobody, retrying
from crunch_tasks.files.walking import FileStat, Walk
from crunch_tasks.files.workspace import Workspace

Arrived = Callable[[str, Entry], None]


@dataclass(frozen=True)
class Uploaded(TransferReport):
    """What an upload did, and what was sent."""

    sent: Manifest


def upload(
    storage: Storage,
    sends: Mapping[str, str],
    workspace: Workspace,
    walk: Walk,
    entries: Mapping[str, Entry],
    *,
    may_write: MayWrite = lambda _: None,
    check: Check = lambda: None,
    progress: Tell = nobody,
    arrived: Arrived = lambda *_: None,
) -> Uploaded:
    """Send each walked path in `sends` to its key. `entries` say what files must be; others are hashed on the way.

    `arrived` is told of each file that is in the storage.

    Raises WorkspaceError for a file that changed or cannot be read, TransferError or StorageError for an object that
    cannot be stored, and what `may_write` and `check` raise.
    """
    size = sum(walk.files[path].size for path in sends)
    meter = Meter(len(sends), size, progress)
    folders = tree.Folders(workspace.root)
    width = Width(storage.parallel)
    sent: dict[str, Entry] = {}

    def before_write(check: Check) -> None:
        check()
        may_write(storage.timeout_s)

    def send_small(path: str, walked: FileStat, announced: str | None, check: Check) -> tuple[ObjectInfo, str]:
        data = tree.read_walked(folders, path, walked)
        md5 = hashlib.md5(data, usedforsecurity=False).hexdigest()
        if announced not in (None, md5):
            raise WorkspaceError(changed(path))
        before_write(check)
        return storage.write(sends[path], data, md5), md5

    def send_large(path: str, walked: FileStat, announced: str | None, check: Check) -> tuple[ObjectInfo, str]:
        done = 0

        def count(size: int) -> None:
            nonlocal done
            check()
            reached(Point.BLOCK_READ)
            done += size
            meter.add(size)

        parts = workspace.hashes.parts(path, walked) if announced and storage.part_size(walked.size) else ""
        try:
            with tree.open_file(folders, path, walked) as file:
                content = FileContent(file, path, walked.size, announced, count, parts)
                info = storage.send(content, sends[path], lambda: before_write(check))
                _refuse_changed(file, path, walked)
                return info, content.md5
        except BaseException:
            meter.add(-done)
            raise

    def send(path: str, check: Check) -> None:
        walked, entry = walk.files[path], entries.get(path)
        once = send_large if walked.size > LARGE else send_small

        def in_turn() -> tuple[ObjectInfo, str]:
            with width.turn(check):
                return once(path, walked, entry.md5 if entry else None, check)

        info, md5 = retrying(in_turn, check)
        reached(Point.FILE_SENT)
        workspace.known.put(info, md5)
        if entry is None:
            workspace.hashes.learn(path, walked, md5)
        sent[path] = entry or Entry(md5, walked.size, walked.mtime_ns)
        arrived(path, sent[path])
        meter.add(walked.size if once is send_small else 0, files=1)

    try:
        in_lanes(send, {path: walk.files[path].size for path in sends}, storage, check)
    finally:
        workspace.hashes.save()
    return Uploaded(len(sends), size, Manifest(sent))


def _refuse_changed(file: FileIO, path: str, walked: FileStat) -> None:
    """Raises WorkspaceError when the file was written to since it was walked."""
    if not tree.is_still(file, walked):
        raise WorkspaceError(changed(path))
