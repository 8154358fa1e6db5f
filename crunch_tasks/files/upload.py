"""From the workspace to the storage: each file read to its verified end before the storage publishes it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from crunch_tasks.errors import WorkspaceError
from crunch_tasks.files import tree
from crunch_tasks.files.checksums import FileContent, changed
from crunch_tasks.files.manifest import Entry
from crunch_tasks.files.parallel import Check
from crunch_tasks.files.storage import LARGE, ObjectInfo, Storage
from crunch_tasks.files.transfer import MayWrite, Meter, Tell, TransferReport, in_lanes, nobody, retrying
from crunch_tasks.files.tree import Walk
from crunch_tasks.files.workspace import Workspace


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
) -> TransferReport:
    """Send each walked path in `sends` to its key; `entries` say what the files must be.

    Raises WorkspaceError for a file that changed or cannot be read, TransferError or StorageError for an object that
    cannot be stored, and what `may_write` and `check` raise.
    """
    size = sum(entries[path].size for path in sends)
    meter = Meter(len(sends), size, progress)
    folders = tree.Folders(workspace.root)

    def send_small(path: str, check: Check) -> ObjectInfo:
        entry = entries[path]
        data = tree.read_walked(folders, path, walk.files[path])
        if hashlib.md5(data, usedforsecurity=False).hexdigest() != entry.md5:
            raise WorkspaceError(changed(path))
        check()
        may_write(storage.timeout_s)
        return storage.write(sends[path], data, entry.md5)

    def send_large(path: str, check: Check) -> ObjectInfo:
        entry, sent = entries[path], 0

        def count(size: int) -> None:
            nonlocal sent
            check()
            sent += size
            meter.add(size)

        def before_commit() -> None:
            check()
            may_write(storage.timeout_s)

        try:
            walked = walk.files[path]
            parts = workspace.hashes.parts(path, walked) if storage.part_size(entry.size) else ""
            with tree.open_file(folders, path, walked) as file:
                content = FileContent(file, path, entry.size, entry.md5, count, parts)
                return storage.send(content, sends[path], before_commit)
        except BaseException:
            meter.add(-sent)
            raise

    def send(path: str, check: Check) -> None:
        entry = entries[path]
        once = send_large if entry.size > LARGE else send_small
        info = retrying(lambda: once(path, check), check)
        workspace.known.put(info, entry.md5)
        meter.add(entry.size if once is send_small else 0, files=1)

    in_lanes(send, {path: entries[path].size for path in sends}, storage, check)
    return TransferReport(len(sends), size)
