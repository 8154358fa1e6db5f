"""A storage in memory, for tests: this project's and its users'."""

from __future__ import annotations

import hashlib
import itertools
import threading
from collections.abc import Callable, Iterator

from crunch_tasks.errors import ObjectMissing
from crunch_tasks.files.storage import BLOCK, Content, ObjectInfo, Source


class MemoryStorage:
    """The Storage interface over a dictionary; `objects` maps each key to its bytes.

    `tells_sums` False makes it one that knows no MD5, as a folder. `calls` counts what was asked, by method.
    """

    description = "memory"
    parallel = 4
    parallel_large = 2
    timeout_s = 0.1

    def __init__(self, objects: dict[str, bytes] | None = None, *, tells_sums: bool = True) -> None:
        self.objects = dict(objects or {})
        self.tells_sums = tells_sums
        self.calls: dict[str, int] = {}
        self._versions = itertools.count(1)
        self._stored = dict.fromkeys(self.objects, 0)
        self._lock = threading.Lock()

    def _count(self, method: str) -> None:
        with self._lock:
            self.calls[method] = self.calls.get(method, 0) + 1

    def _info(self, key: str) -> ObjectInfo:
        data = self.objects[key]
        md5 = hashlib.md5(data, usedforsecurity=False).hexdigest() if self.tells_sums else None
        version = self._stored.get(key, 0)
        return ObjectInfo(key, len(data), version * 1_000_000_000, md5, f"version-{version}")

    def list_objects(self, prefix: str) -> Iterator[ObjectInfo]:
        self._count("list_objects")
        return iter([self._info(key) for key in sorted(self.objects) if key.startswith(prefix)])

    def stat(self, key: str) -> ObjectInfo | None:
        self._count("stat")
        return self._info(key) if key in self.objects else None

    def tells_md5(self, key: str) -> bool:  # noqa: ARG002
        return self.tells_sums

    def content_md5(self, key: str) -> None:
        """It keeps none."""

    def part_size(self, size: int) -> None:
        """It sends files as a whole."""

    def part_of(self, source: Source) -> None:
        """Its sums are of whole objects."""

    def read(self, key: str) -> bytes:
        self._count("read")
        return self._data(key)

    def iter_bytes(self, source: Source, start: int = 0) -> Iterator[bytes]:
        self._count("iter_bytes")
        data = self._data(source.key)
        for at in range(start, len(data), BLOCK):
            yield data[at : at + BLOCK]

    def _data(self, key: str) -> bytes:
        if key not in self.objects:
            raise ObjectMissing(f"{key!r} is not in the storage")
        return self.objects[key]

    def send(self, content: Content, key: str, before_commit: Callable[[], None]) -> ObjectInfo:
        self._count("send")
        content.rewind()
        data = content.read()
        before_commit()
        return self._put(key, data)

    def write(self, key: str, data: bytes, md5: str | None = None) -> ObjectInfo:  # noqa: ARG002
        self._count("write")
        return self._put(key, data)

    def _put(self, key: str, data: bytes) -> ObjectInfo:
        with self._lock:
            self.objects[key] = data
            self._stored[key] = next(self._versions)
        return self._info(key)

    def signed_put(self, key: str, name: str, size: int, md5: str) -> None:
        """It has no addresses."""

    def copy(self, source: str, target: str) -> None:
        self._count("copy")
        if source not in self.objects:
            raise ObjectMissing(f"{source!r} is not in the storage")
        self._put(target, self.objects[source])

    def delete(self, key: str) -> None:
        self._count("delete")
        self.objects.pop(key, None)

    def remove_unfinished(self, prefix: str, is_ours: Callable[[str], bool]) -> None:
        """It has no half objects."""

    def flush(self) -> None:
        self._count("flush")

    def check_overwrites(self, prefix: str) -> None:  # noqa: ARG002
        self._count("check_overwrites")
