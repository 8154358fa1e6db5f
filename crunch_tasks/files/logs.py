"""The logs that a run left in the storage: of the commit beside the files, of a failure with its attempt."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from crunch_tasks.contract import LOGS, attempt_folder
from crunch_tasks.files.paths import safe_prefix
from crunch_tasks.files.storage import Storage


@dataclass(frozen=True)
class Log:
    """The end of a log file: `path` below the logs' folder, `size` of the whole in bytes."""

    path: str
    size: int
    end: bytes


def read_logs(storage: Storage, dataset: Mapping[str, Any], fence: int, most: int) -> list[Log]:
    """The last `most` bytes of each log of the attempt with this fence; `dataset` is its body on the wire.

    Raises StorageError.
    """
    folder = LOGS if fence == dataset["manifest_fence"] else f"{attempt_folder(fence)}/logs"
    prefix = f"{safe_prefix(dataset['base_file_path'])}{folder}/"
    found = []
    for info in sorted(storage.list_objects(prefix), key=lambda info: info.key):
        blocks = storage.iter_bytes(info.as_source(), max(0, info.size - most))
        found.append(Log(info.key.removeprefix(prefix), info.size, b"".join(bytes(block) for block in blocks)))
    return found
