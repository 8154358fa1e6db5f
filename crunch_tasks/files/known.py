"""What this machine has learnt about objects in storage: their MD5 while they stay the version that it read or wrote.

Storages that tell no checksum (a folder, SFTP, parts on S3) would otherwise make every run fetch and send everything
again. Kept in a workspace's state folder, a line per object, so that a kill loses one line at most.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterable
from dataclasses import replace
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
        """Remember that this version of the object has this MD5, if versions can be told apart."""
        if info.tag is None or self._known.get(info.key) == (info.size, info.tag, md5):
            return
        with self._lock:
            self._known[info.key] = (info.size, info.tag, md5)
            with self._path.open("a", encoding="utf-8") as file:
                file.write(_line(info.key, info.size, info.tag, md5))

    def fill_in(self, infos: Iterable[ObjectInfo]) -> list[ObjectInfo]:
        """The objects, with the MD5 where the storage does not tell it and it is known here."""
        return [info if info.md5 else replace(info, md5=self._md5(info)) for info in infos]

    def _md5(self, info: ObjectInfo) -> str | None:
        known = self._known.get(info.key)
        return known[2] if known and known[:2] == (info.size, info.tag) else None


def _line(key: str, size: int, tag: str, md5: str) -> str:
    return json.dumps([key, size, tag, md5]) + "\n"
