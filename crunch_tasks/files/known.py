"""What this machine has learnt about objects in storage: their MD5 while they stay the version that it read or wrote.

Storages that tell no checksum (a folder, SFTP, parts on S3) would otherwise make every run fetch and send everything
again. Kept in a workspace's state folder, a line per object, so that a kill loses one line at most.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterable
from dataclasses import replace
from functools import cached_property
from io import FileIO
from pathlib import Path

from crunch_tasks.files.plan import ObjectInfo


class KnownObjects:
    """MD5 sums by key, valid while size and tag stay the same. Safe to use from threads."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._known: dict[str, tuple[int, str, str]] = {}
        text = path.read_text("utf-8", "replace") if path.exists() else ""
        lines = text.splitlines()
        is_torn = bool(text) and not text.endswith("\n")
        for line in lines:
            try:
                key, size, tag, md5 = json.loads(line)
                self._known[key] = (int(size), str(tag), str(md5))
            except (ValueError, TypeError):
                # A line that a kill cut short; its object is read or sent again.
                is_torn = True
        if is_torn or len(lines) > 2 * len(self._known) + 100:
            self._compact()

    def _compact(self) -> None:
        temporary = self._path.with_suffix(".new")
        temporary.write_text("".join(_line(key, *value) for key, value in self._known.items()), "utf-8")
        temporary.replace(self._path)

    def put(self, info: ObjectInfo, md5: str) -> None:
        """Remember that this version of the object has this MD5, if versions can be told apart, and do not tell it."""
        if info.tag is None or md5 in info.tag or self._known.get(info.key) == (info.size, info.tag, md5):
            return
        with self._lock:
            self._known[info.key] = (info.size, info.tag, md5)
            self._file.write(_line(info.key, info.size, info.tag, md5).encode())

    @cached_property
    def _file(self) -> FileIO:
        """Not buffered: a kill loses nothing that was put."""
        return FileIO(self._path, "a")

    def fill_in(self, infos: Iterable[ObjectInfo]) -> list[ObjectInfo]:
        """The objects, with the MD5 where the storage does not tell it and it is known here."""
        return [info if info.md5 else replace(info, md5=self.md5(info.key, info.size, info.tag)) for info in infos]

    def md5(self, key: str, size: int, tag: str | None) -> str | None:
        """The MD5 of this version of the object, if it is known here."""
        known = self._known.get(key)
        return known[2] if known and known[:2] == (size, tag) else None


def _line(key: str, size: int, tag: str, md5: str) -> str:
    return json.dumps([key, size, tag, md5]) + "\n"
