"""A dataset's files, for its page and for downloads: as its last run published them, else as they are in the storage.

A name from an address is looked up, never joined and opened: what is not listed is not there.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from django.conf import settings
from django.core.paginator import Page, Paginator

from crunch_tasks.contract import CRUNCH_FOLDER
from crunch_tasks.errors import CrunchError, StorageError
from crunch_tasks.files.manifest import PublishedManifest
from crunch_tasks.files.opening import open_storage
from crunch_tasks.files.paths import is_internal, name_problem, safe_prefix
from crunch_tasks.files.plan import staged_path
from crunch_tasks.files.publication import read_committed
from crunch_tasks.files.storage import ObjectInfo, Storage
from server.models import Dataset

TIMEOUT_S = 10.0
"""How long a page waits for one answer of the storage, in seconds."""

LISTED = 10_000
"""The most files that are listed of a dataset that nothing was published of."""

_STAGED = re.compile(rf"{re.escape(CRUNCH_FOLDER)}/attempts/\d+/files/.*", re.DOTALL)


@dataclass(frozen=True)
class File:
    """A file on the page. `md5` is "" when unknown; `problem` says why it cannot be handed out, if so."""

    path: str
    size: int
    md5: str = ""
    problem: str = ""


@dataclass(frozen=True)
class Listing:
    """A dataset's files and Crunch's own records of its runs; `problem` says why they are not (all) there."""

    files: list[File] = field(default_factory=list)
    records: list[File] = field(default_factory=list)
    published: bool = False
    cut: bool = False
    problem: str = ""

    @property
    def size(self) -> int:
        """The files' sizes together, in bytes."""
        return sum(file.size for file in self.files)

    def page(self, number: str | None, per_page: int) -> ListingPage:
        return ListingPage(self, Paginator(self.files, per_page).get_page(number))


@dataclass(frozen=True)
class ListingPage:
    """The part of a listing that one page shows."""

    listing: Listing
    page: Page[File]


def listing(dataset: Dataset) -> Listing:
    """What the page shows. A storage that cannot be reached gives a listing with a problem, never an error."""
    try:
        storage, prefix = _place(dataset)
        records = [
            info for info in storage.list_objects(f"{prefix}{CRUNCH_FOLDER}/") if not _is_staged(info.key, prefix)
        ]
        shown = Listing(records=_sorted(records, prefix))
        if dataset.manifest_sha256:
            files = _published(storage, prefix, dataset).files
            entries = [File(path, entry.size, entry.md5) for path, entry in files.items()]
            return Listing(entries, shown.records, published=True)
        found = (info for info in storage.list_objects(prefix) if not is_internal(info.key[len(prefix) :]))
        some = list(islice(found, LISTED + 1))
        return Listing(_sorted(some[:LISTED], prefix), shown.records, cut=len(some) > LISTED)
    except CrunchError as error:
        return Listing(problem=str(error))


def find(dataset: Dataset, path: str) -> tuple[Storage, ObjectInfo] | None:
    """Where the bytes of a listed file are, or None when no file of that name is listed. Raises CrunchError."""
    if name_problem(path):
        return None
    storage, prefix = _place(dataset)
    if is_internal(path):
        listed = path.startswith(f"{CRUNCH_FOLDER}/") and not _STAGED.fullmatch(path)
        places = [path] if listed else []
    elif dataset.manifest_sha256:
        published = _published(storage, prefix, dataset)
        places = [path] if path in published.files else []
        if path in published.modified:
            # Until it is promoted, a modified file's own name still has its old bytes.
            places.insert(0, staged_path(published.fence, path))
    else:
        places = [path]
    for place in places:
        if (info := _stat(storage, prefix + place)) is not None:
            return storage, info
    return None


def _stat(storage: Storage, key: str) -> ObjectInfo | None:
    """None also for what is no file: a folder, or a link that leads out of the storage."""
    try:
        return storage.stat(key)
    except StorageError as error:
        if error.retryable:
            raise
        return None


def _place(dataset: Dataset) -> tuple[Storage, str]:
    return _storage(json.dumps(settings.STORAGES["default"], sort_keys=True, default=str)), safe_prefix(
        dataset.base_file_path
    )


@functools.lru_cache(maxsize=4)
def _storage(config: str) -> Storage:
    parsed: dict[str, Any] = json.loads(config)
    return open_storage(parsed, timeout_s=TIMEOUT_S)


def _published(storage: Storage, prefix: str, dataset: Dataset) -> PublishedManifest:
    return read_committed(storage, prefix, dataset.manifest_sha256, dataset.manifest_fence)


def _is_staged(key: str, prefix: str) -> bool:
    return _STAGED.fullmatch(key[len(prefix) :]) is not None


def _sorted(infos: Iterable[ObjectInfo], prefix: str) -> list[File]:
    paths = ((info.key[len(prefix) :], info) for info in infos)
    files = (File(path, info.size, info.md5 or "", name_problem(path) or "") for path, info in paths)
    return sorted(files, key=lambda file: file.path)
