"""Files as a tree of folders, from the flat list that a storage gives. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Protocol

DEEPEST = 8
"""Folders deeper than this are shown as part of their files' names: pages and people have an end."""


class Entry(Protocol):
    """What a tree needs to know of a file."""

    @property
    def path(self) -> str: ...
    @property
    def size(self) -> int: ...


@dataclass
class Folder:
    """`files` are pairs of the name in this folder and the file. `count` and `size` (bytes) are of all below it.

    `path` is that of the folder, with a slash at its end, or "" for the one that all is in.
    """

    name: str = ""
    path: str = ""
    folders: dict[str, Folder] = field(default_factory=dict)
    files: list[tuple[str, Entry]] = field(default_factory=list)
    count: int = 0
    size: int = 0

    @property
    def subfolders(self) -> list[Folder]:
        return list(self.folders.values())


def tree(files: Iterable[Entry], shown: Iterable[Entry] | None = None) -> Folder:
    """The folder of all `files`, with those in it that are `shown`, all of them unless told otherwise.

    A folder without a shown file is left out; the counts and sizes of the others are those of all their files.
    """
    files = list(files)
    top = Folder()
    for file in files if shown is None else shown:
        *above, name = file.path.split("/", DEEPEST)
        folder = top
        for part in above:
            folder = folder.folders.setdefault(part, Folder(part, f"{folder.path}{part}/"))
        folder.files.append((name, file))
    for file in files:
        _count(top, file)
    return top


def _count(top: Folder, file: Entry) -> None:
    folder: Folder | None = top
    *above, _ = file.path.split("/", DEEPEST)
    for part in [*above, ""]:
        if folder is None:
            return
        folder.count += 1
        folder.size += file.size
        folder = folder.folders.get(part)
