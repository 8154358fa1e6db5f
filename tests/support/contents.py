"""Content to send to a storage."""

from __future__ import annotations

import io
from pathlib import Path

from crunch_tasks.files.checksums import FileContent
from tests.support.transfers import md5


def content(data: bytes, tmp_path: Path, *, claimed: str | None = None) -> FileContent:
    """The data as a file that is sent, by its own MD5 or that which is `claimed`."""
    path = tmp_path / f"content-{md5(data)}"
    path.write_bytes(data)
    return FileContent(io.FileIO(path), "results.txt", len(data), claimed or md5(data))


def nothing() -> None:
    """A lease that is always there."""
