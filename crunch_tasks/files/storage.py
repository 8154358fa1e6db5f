"""The one narrow interface to a dataset's storage; who implements it for a given storage is chosen in `opening`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

from crunch_tasks.files.plan import ObjectInfo, Source

__all__ = [
    "BLOCK",
    "LARGE",
    "MEDIUM",
    "MEDIUM_AT_ONCE",
    "TIMEOUT_S",
    "Block",
    "Content",
    "ObjectInfo",
    "SignedPut",
    "Source",
    "Storage",
    "check_reachable",
    "timeout_for",
]

BLOCK = 1024 * 1024
"""How many bytes are read at a time, so that memory stays flat whatever a file's size."""

LARGE = 8 * BLOCK
"""Files of more bytes than this are never held in memory as a whole, and travel `Storage.parallel_large` at once."""

MEDIUM = BLOCK
"""Files of more bytes than this, and not large, travel MEDIUM_AT_ONCE at once, so that memory has a bound."""

MEDIUM_AT_ONCE = 4

Block = bytes | memoryview
"""Some of a file's bytes."""

TIMEOUT_S = 300.0
"""How long one request to a storage may take, in seconds, unless the caller has less time."""


NOWHERE = "crunch-looks-whether-the-storage-is-there/"
"""A prefix without objects."""


class Content(Protocol):
    """The bytes that `Storage.send` sends: a local file that is verified while it is read.

    Reading past its end raises when the bytes are not `size` long or do not have the MD5 `md5`, so a storage that
    reads to the end (an empty read) before it publishes never publishes others.
    """

    size: int
    parts: str
    """The sum of its parts of `Storage.part_size` bytes, or "". With it nothing is verified while it is read."""

    @property
    def md5(self) -> str:
        """Known when all was read, at the latest."""

    def read(self, size: int = -1, /) -> bytes: ...

    def rewind(self) -> None:
        """Start again from the first byte."""


@dataclass(frozen=True)
class SignedPut:
    """An address at which the storage takes one file's bytes from whoever has it, by a PUT with these headers."""

    address: str
    headers: Mapping[str, str]


class Storage(Protocol):
    """Objects by key. A key never starts with `/`; a prefix ends in `/` or is empty.

    Every method raises ObjectMissing when an object is not there, TransferError when a retry may help, StorageError
    otherwise; each message names the key. All methods may be called from several threads.
    """

    description: str
    """What to call this storage in a message; no secrets."""

    parallel: int
    """How many calls for small objects at once are worth it."""

    parallel_large: int
    """How many files of more than LARGE bytes to read or send at once; fewer where each one is several calls."""

    timeout_s: float
    """The longest that one write takes from when it starts until its effect, in seconds; also when it fails."""

    def list_objects(self, prefix: str) -> Iterator[ObjectInfo]:
        """Every object below `prefix`, however deep, in no order. Raises NamesRefused for keys that cannot be read."""

    def stat(self, key: str) -> ObjectInfo | None:
        """The object, or None when there is none."""

    def tells_md5(self, key: str) -> bool:
        """Whether the MD5 in this object's ObjectInfo can be trusted; asked only when it is in doubt."""

    def content_md5(self, key: str) -> str | None:
        """The MD5 that the storage keeps of an object and tells only when asked, or None."""

    def part_size(self, size: int) -> int | None:
        """How many bytes each part has that `send` sends a file of so many bytes in, if the answer tells their sum."""

    def part_of(self, source: Source) -> int | None:
        """How many bytes each part had that this object was sent in, or None when the storage does not say."""

    def read(self, key: str) -> bytes:
        """A small object as a whole."""

    def iter_bytes(self, source: Source, start: int = 0) -> Iterator[Block]:
        """The object's bytes in order, from the one at `start`.

        Raises TransferError when the storage can tell that it has another version of the object by now.
        """

    def send(self, content: Content, key: str, before_commit: Callable[[], None]) -> ObjectInfo:
        """Store all of `content` under `key`, overwriting, and verify it.

        No partial object ever appears where the storage can help it. `before_commit` is called right before each
        request that makes bytes visible, and may raise to stop it.
        """

    def write(self, key: str, data: bytes, md5: str | None = None) -> ObjectInfo:
        """Store a small object as a whole, overwriting, and verify it. `md5` is that of the data, if it is known."""

    def signed_put(self, key: str, name: str, size: int, md5: str) -> SignedPut | None:
        """Where a browser may put `size` bytes of this MD5 as `key`; `name` tells their media type.

        None where the storage has no such addresses, or could not keep the file as `send` would.
        """

    def copy(self, source: str, target: str) -> None:
        """Make `target` the same bytes as `source`, within the storage where it can."""

    def delete(self, key: str) -> None:
        """Delete the object; no error when it is not there."""

    def remove_unfinished(self, prefix: str, is_ours: Callable[[str], bool]) -> None:
        """Remove what killed writers left half sent below `prefix` to keys for which `is_ours`, as far as it can be.

        Nobody who holds a lease may be writing there.
        """

    def flush(self) -> None:
        """Return when everything written before survives a power cut."""

    def check_overwrites(self, prefix: str) -> None:
        """Raises RenamingStorage when a file would be kept under another name than asked, or not be overwritten."""


def timeout_for(lease_s: float) -> float:
    """What to give `open_storage` as `timeout_s` under leases of `lease_s` seconds, so that writes fit into them."""
    return min(TIMEOUT_S, lease_s / 3)


def check_reachable(storage: Storage) -> None:
    """Raises StorageError when the storage cannot be listed: a wrong key, no such bucket, a share not mounted."""
    next(storage.list_objects(NOWHERE), None)
