"""Manifests: what files a dataset has, what changed between two moments, and the documents that say so in storage.

Pure. A manifest maps a relative path to the MD5, size and modification time of the file there. Four documents carry
it: the seed's `{path: md5}` files, an attempt's plan, the list of what a stopped attempt saved, and the published
manifest whose SHA-256 is the commit.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from crunch_tasks.errors import StorageError

FORMAT = 1
"""The version of the plan and of the published manifest; another one is refused."""

_MD5 = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True, slots=True)
class Entry:
    """One file: MD5 in lower-case hex, size in bytes, modification time in nanoseconds since 1970."""

    md5: str
    size: int
    mtime_ns: int


class Manifest(Mapping[str, Entry]):
    """An immutable mapping of relative path to Entry, in the order of the paths."""

    def __init__(self, entries: Mapping[str, Entry]) -> None:
        self._entries = MappingProxyType({path: entries[path] for path in sorted(entries)})

    def __getitem__(self, path: str) -> Entry:
        return self._entries[path]

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def __repr__(self) -> str:
        return f"Manifest({len(self)} files, {self.size} bytes)"

    @property
    def size(self) -> int:
        """The files' sizes together, in bytes."""
        return sum(entry.size for entry in self.values())

    def checksums_json(self) -> bytes:
        """The seed's format: `{path: md5}` as UTF-8 JSON, sorted by path."""
        return _dump({path: entry.md5 for path, entry in self.items()}, indent=2)

    def to_wire(self) -> dict[str, dict[str, Any]]:
        return {
            path: {"md5": entry.md5, "size": entry.size, "mtime_ns": entry.mtime_ns} for path, entry in self.items()
        }

    @classmethod
    def from_wire(cls, body: Any) -> Manifest:
        """Raises StorageError when `body` is not what `to_wire` makes."""
        entries = {}
        for path, value in _typed(body, dict, "files").items():
            entry = _typed(value, dict, path)
            md5 = _typed(entry.get("md5"), str, path)
            if not _MD5.fullmatch(md5):
                raise StorageError(f"A manifest is damaged: {path!r} has the MD5 {md5!r}")
            entries[path] = Entry(md5, _typed(entry.get("size"), int, path), _typed(entry.get("mtime_ns"), int, path))
        return cls(entries)


@dataclass(frozen=True)
class Diff:
    """What became of the files of one manifest in another; each a sorted tuple of paths."""

    added: tuple[str, ...]
    modified: tuple[str, ...]
    deleted: tuple[str, ...]
    unchanged: tuple[str, ...]

    @property
    def stats(self) -> dict[str, int]:
        return {
            "added": len(self.added),
            "modified": len(self.modified),
            "deleted": len(self.deleted),
            "unchanged": len(self.unchanged),
        }


def diff(old: Mapping[str, Entry], new: Mapping[str, Entry]) -> Diff:
    """Compare by MD5 and size; a changed modification time alone is no change."""
    common = sorted(old.keys() & new.keys())
    same = {path for path in common if (old[path].md5, old[path].size) == (new[path].md5, new[path].size)}
    return Diff(
        added=tuple(sorted(new.keys() - old.keys())),
        modified=tuple(path for path in common if path not in same),
        deleted=tuple(sorted(old.keys() - new.keys())),
        unchanged=tuple(path for path in common if path in same),
    )


def deleted_txt(paths: Iterable[str]) -> bytes:
    r"""One path per line, sorted; a newline in a name becomes `\n` and a backslash `\\`, so that a line is a path."""
    escaped = [path.replace("\\", "\\\\").replace("\n", "\\n").replace("\r", "\\r") for path in sorted(paths)]
    return "".join(f"{line}\n" for line in escaped).encode()


@dataclass(frozen=True)
class PublishedManifest:
    """`manifest-FENCE.json`: the whole of a dataset as one attempt left it.

    `modified` are the files whose bytes are staged under the attempt's folder until they are promoted. `deleted` are
    paths that may have an object in the storage but are not the dataset's: files that workflows deleted, and all that
    uncommitted attempts may have left. `unread` are the dataset's files that a run neither fetched nor knows the MD5
    of, with their sizes in bytes.
    """

    fence: int
    dataset: int
    files: Manifest
    modified: tuple[str, ...] = ()
    deleted: tuple[str, ...] = ()
    unread: Mapping[str, int] = field(default_factory=dict)

    def to_bytes(self) -> bytes:
        return _dump(
            {
                "format": FORMAT,
                "fence": self.fence,
                "dataset": self.dataset,
                "files": self.files.to_wire(),
                "modified": sorted(self.modified),
                "deleted": sorted(self.deleted),
                "unread": dict(self.unread),
            }
        )

    @classmethod
    def from_bytes(cls, data: bytes) -> PublishedManifest:
        """Raises StorageError when `data` is no published manifest of this format."""
        body = _document(data, "manifest")
        return cls(
            fence=_typed(body.get("fence"), int, "fence"),
            dataset=_typed(body.get("dataset"), int, "dataset"),
            files=Manifest.from_wire(body.get("files")),
            modified=_paths(body, "modified"),
            deleted=_paths(body, "deleted"),
            unread={path: _typed(size, int, path) for path, size in _typed(body.get("unread"), dict, "unread").items()},
        )


@dataclass(frozen=True)
class AttemptPlan:
    """`attempts/FENCE/plan.json`: what an attempt is about to send, written before it sends anything.

    `setup` is what the attempt started from, `new` go to their final names, `modified` to the attempt's folder.
    """

    fence: int
    dataset: int
    setup: Manifest
    new: tuple[str, ...] = ()
    modified: tuple[str, ...] = ()

    def to_bytes(self) -> bytes:
        return _dump(
            {
                "format": FORMAT,
                "fence": self.fence,
                "dataset": self.dataset,
                "setup": self.setup.to_wire(),
                "new": sorted(self.new),
                "modified": sorted(self.modified),
            }
        )

    @classmethod
    def from_bytes(cls, data: bytes) -> AttemptPlan:
        """Raises StorageError when `data` is no plan of this format."""
        body = _document(data, "plan")
        return cls(
            fence=_typed(body.get("fence"), int, "fence"),
            dataset=_typed(body.get("dataset"), int, "dataset"),
            setup=Manifest.from_wire(body.get("setup")),
            new=_paths(body, "new"),
            modified=_paths(body, "modified"),
        )


@dataclass(frozen=True)
class SavedWork:
    """`attempts/FENCE/saved.json`: the files that an attempt's workflow had finished when it was stopped.

    `start` tells the inputs and the workflow that they were made from, `places` the fence of the attempt that has each
    of them: what one attempt saved stands for those after it too.
    """

    fence: int
    start: str
    files: Manifest
    places: Mapping[str, int]

    def to_bytes(self) -> bytes:
        return _dump(
            {
                "format": FORMAT,
                "fence": self.fence,
                "start": self.start,
                "files": self.files.to_wire(),
                "places": dict(self.places),
            }
        )

    @classmethod
    def from_bytes(cls, data: bytes) -> SavedWork:
        """Raises StorageError when `data` is no such list of this format."""
        body = _document(data, "list of saved files")
        files = Manifest.from_wire(body.get("files"))
        places = _typed(body.get("places"), dict, "places")
        return cls(
            fence=_typed(body.get("fence"), int, "fence"),
            start=_typed(body.get("start"), str, "start"),
            files=files,
            places={path: _typed(places.get(path), int, path) for path in files},
        )


def _dump(body: Any, indent: int | None = None) -> bytes:
    separators = (",", ": ") if indent else (",", ":")
    text = json.dumps(body, ensure_ascii=False, sort_keys=True, separators=separators, indent=indent)
    return (text + "\n").encode()


def _load(data: bytes) -> Any:
    try:
        return json.loads(data)
    except ValueError as error:
        raise StorageError(f"A document of Crunch in the storage is damaged: {error}") from error


def _document(data: bytes, what: str) -> dict[str, Any]:
    body: dict[str, Any] = _typed(_load(data), dict, what)
    if body.get("format") != FORMAT:
        raise StorageError(f"The {what} has the format {body.get('format')!r}; this version of Crunch reads {FORMAT}")
    return body


def _paths(body: Mapping[str, Any], name: str) -> tuple[str, ...]:
    return tuple(_typed(path, str, name) for path in _typed(body.get(name), list, name))


def _typed(value: Any, wanted: type, where: str) -> Any:
    if not isinstance(value, wanted) or (wanted is int and isinstance(value, bool)):
        raise StorageError(f"A document of Crunch in the storage is damaged at {where!r}")
    return value
