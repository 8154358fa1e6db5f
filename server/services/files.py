"""A dataset's files, to list and to hand out: as its last run published them, else as they are in the storage.

What was added since is among them until the dataset is completed, as its next run starts from it too.

A name from an address is looked up, never joined and opened: what a whole list would not show is not there.
"""

from __future__ import annotations

import functools
import json
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from django.conf import settings

from crunch_tasks.contract import CRUNCH_FOLDER
from crunch_tasks.errors import Altered, CrunchError, Refused
from crunch_tasks.files.opening import open_storage
from crunch_tasks.files.paths import name_problem, safe_prefix
from crunch_tasks.files.plan import Source, is_staged
from crunch_tasks.files.reading import find_file, list_files, shows_added, stat_file
from crunch_tasks.files.storage import Storage
from server.models import Dataset

TIMEOUT_S = 10.0
"""How long a page, or a call, waits for one answer of the storage, in seconds."""

AWAY = (
    "The storage does not answer as it should. Try again in a while; if that does not help, tell who runs this server"
)
"""What anyone is told of it; why goes to members, after a colon."""

ALTERED = "Something else wrote over, or deleted, what the last run published, so it is not handed out"
"""The same, where to try again would not help."""

LISTED = 10_000
"""The most files, and the most records, that are listed of a dataset."""


@dataclass(frozen=True)
class File:
    """A file that is listed. `md5` is "" when unknown; `problem` says why it cannot be handed out, if so."""

    path: str
    size: int
    md5: str = ""
    problem: str = ""


@dataclass(frozen=True)
class Listing:
    """A dataset's files and Crunch's own records of its runs.

    `published` tells that these are what the last run published and nothing else, `added` how many files came since,
    `cut` that there are more files.
    """

    files: list[File] = field(default_factory=list)
    records: list[File] = field(default_factory=list)
    published: bool = False
    added: int = 0
    cut: bool = False

    @property
    def size(self) -> int:
        """The files' sizes together, in bytes."""
        return sum(file.size for file in self.files)


def listing(dataset: Dataset) -> Listing:
    """What there is. Raises CrunchError."""
    storage, prefix = place(dataset)
    told = body(dataset)
    found = list_files(storage, told, LISTED, added=shows_added(told))
    files = [
        File(path, source.size, source.md5 or "", found.problems.get(path, "")) for path, source in found.files.items()
    ]
    paths = ((info.key[len(prefix) :], info) for info in storage.list_objects(f"{prefix}{CRUNCH_FOLDER}/"))
    some = islice(((path, info) for path, info in paths if not is_staged(path)), LISTED)
    records = [File(path, info.size, info.md5 or "", name_problem(path) or "") for path, info in sorted(some)]
    return Listing(files, records, found.published, found.added, found.cut)


def find(dataset: Dataset, path: str) -> tuple[Storage, Source] | None:
    """Where the bytes of a listed file are, or None when no file of that name is listed. Raises CrunchError."""
    if name_problem(path):
        return None
    storage, prefix = place(dataset)
    if path.startswith(f"{CRUNCH_FOLDER}/"):
        info = None if is_staged(path) else stat_file(storage, prefix + path)
        source = None if info is None else info.as_source()
    else:
        told = body(dataset)
        source = find_file(storage, told, path, added=shows_added(told))
    return None if source is None else (storage, source)


def trouble(error: CrunchError) -> Refused:
    """What anyone is told of why there are no files to show, as a refusal."""
    if isinstance(error, Altered):
        return Refused(ALTERED, 409, "altered")
    return Refused(AWAY, 503, "storage")


def body(dataset: Dataset) -> dict[str, Any]:
    """What the readers of storages need of a dataset's body on the wire."""
    return {name: getattr(dataset, name) for name in ("base_file_path", "state", "manifest_sha256", "manifest_fence")}


def place(dataset: Dataset, timeout_s: float = TIMEOUT_S) -> tuple[Storage, str]:
    """The storage, with `timeout_s` for each of its answers, and the dataset's prefix in it. Raises CrunchError."""
    config = json.dumps(settings.STORAGES["default"], sort_keys=True, default=str)
    return _storage(config, timeout_s), safe_prefix(dataset.base_file_path)


@functools.lru_cache(maxsize=4)
def _storage(config: str, timeout_s: float) -> Storage:
    parsed: dict[str, Any] = json.loads(config)
    return open_storage(parsed, timeout_s=timeout_s)
