"""The one narrow interface to a dataset's storage, and the choice of who does the work for a given Django storage.

Django appears here only: a storage is described as Django's `STORAGES["default"]` describes it, so server and clients
can read one file. S3, Google Cloud and Azure are then served by `object_store`, a folder by `folder`, and every other
Django storage by `django_storage` through its own `open` and `save`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol

from crunch_tasks.errors import SettingsError
from crunch_tasks.files.plan import ObjectInfo

__all__ = ["BLOCK", "TIMEOUT_S", "Content", "ObjectInfo", "Storage", "open_storage", "read"]

BLOCK = 1024 * 1024
"""How many bytes are read at a time, so that memory stays flat whatever a file's size."""

TIMEOUT_S = 300.0
"""How long one request to a storage may take, in seconds, unless the caller has less time."""


class Content(Protocol):
    """The bytes that `Storage.send` sends: a local file that is verified while it is read.

    Reading past its end raises when the bytes are not `size` long or do not have the MD5 `md5`, so a storage that
    reads to the end (an empty read) before it publishes never publishes others.
    """

    size: int
    md5: str

    def read(self, size: int = -1, /) -> bytes: ...

    def rewind(self) -> None:
        """Start again from the first byte."""


class Storage(Protocol):
    """Objects by key. A key never starts with `/`; a prefix ends in `/` or is empty.

    Every method raises ObjectMissing when an object is not there, TransferError when a retry may help, StorageError
    otherwise; each message names the key. All methods may be called from several threads.
    """

    description: str
    """What to call this storage in a message; no secrets."""

    parallel: int
    """How many calls at once are worth it."""

    timeout_s: float
    """The longest that one write takes from when it starts until its effect, in seconds; also when it fails."""

    def list_objects(self, prefix: str) -> Iterator[ObjectInfo]:
        """Every object below `prefix`, however deep, in no order. Raises NamesRefused for keys that cannot be read."""

    def stat(self, key: str) -> ObjectInfo | None:
        """The object, or None when there is none."""

    def tells_md5(self, key: str) -> bool:
        """Whether the MD5 in this object's ObjectInfo can be trusted; asked only when it is in doubt."""

    def iter_bytes(self, key: str) -> Iterator[bytes]:
        """The object's bytes in order, in blocks of about BLOCK."""

    def send(self, content: Content, key: str, before_commit: Callable[[], None]) -> ObjectInfo:
        """Store all of `content` under `key`, overwriting, and verify it.

        No partial object ever appears where the storage can help it. `before_commit` is called right before each
        request that makes bytes visible, and may raise to stop it.
        """

    def write(self, key: str, data: bytes) -> ObjectInfo:
        """Store a small object, overwriting."""

    def copy(self, source: str, target: str) -> None:
        """Make `target` the same bytes as `source`, within the storage where it can."""

    def delete(self, key: str) -> None:
        """Delete the object; no error when it is not there."""

    def flush(self) -> None:
        """Return when everything written before survives a power cut."""

    def check_overwrites(self, prefix: str) -> None:
        """Raises RenamingStorage when a file would be kept under another name than asked, or not be overwritten."""


def timeout_for(lease_s: float) -> float:
    """What to give `open_storage` as `timeout_s` under leases of `lease_s` seconds, so that writes fit into them."""
    return min(TIMEOUT_S, lease_s / 3)


def read(storage: Storage, key: str) -> bytes:
    """A small object as a whole."""
    return b"".join(storage.iter_bytes(key))


def open_storage(config: Mapping[str, Any], *, timeout_s: float = TIMEOUT_S) -> Storage:
    """The storage that `config` (`{"BACKEND": dotted class, "OPTIONS": {...}}`) describes.

    `timeout_s` bounds one request; a caller with a short lease gives less than the lease. Raises SettingsError when
    the storage cannot be built, or has an option that matters and cannot be honoured.
    """
    from django.core.files.storage import FileSystemStorage

    make = _maker(config)
    django_storage = make()
    name = f"{type(django_storage).__module__}.{type(django_storage).__qualname__}"
    if type(django_storage) is FileSystemStorage:
        from crunch_tasks.files.folder import FolderStorage

        return FolderStorage.from_django(django_storage)
    if name in _OBJECT_STORES:
        from crunch_tasks.files import object_store

        return object_store.open_object_store(django_storage, timeout_s)
    from crunch_tasks.files.django_storage import DjangoStorage

    return DjangoStorage(make, django_storage, timeout_s)


# Subclasses go through their own open and save: they may change what a name or a byte means.
_OBJECT_STORES = {
    "storages.backends.s3.S3Storage",
    "storages.backends.gcloud.GoogleCloudStorage",
    "storages.backends.azure_storage.AzureStorage",
}


def _maker(config: Mapping[str, Any]) -> Callable[[], Any]:
    """A function that builds the Django storage anew, as Django would, without touching its global settings."""
    from django.conf import settings
    from django.core.exceptions import ImproperlyConfigured
    from django.core.files.storage.handler import InvalidStorageError, StorageHandler

    if not settings.configured:
        settings.configure()
    backend = config.get("BACKEND")
    if not isinstance(backend, str):
        raise SettingsError("The storage settings have no BACKEND, the dotted name of a Django storage class.")
    options = dict(config.get("OPTIONS") or {})

    def make() -> Any:
        try:
            return StorageHandler({}).create_storage({"BACKEND": backend, "OPTIONS": options})
        except (ImproperlyConfigured, InvalidStorageError, ImportError, TypeError) as error:
            raise SettingsError(f"The storage {backend} cannot be set up: {error}") from error

    return make
