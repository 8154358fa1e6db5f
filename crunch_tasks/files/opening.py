"""The choice of who does the work for a given Django storage.

Django appears in `crunch_tasks` only here and in the doers: a storage is described as Django's `STORAGES["default"]`
describes it, so server and clients can read one file. S3, Google Cloud and Azure are served by `object_store`, a folder
by `folder`, and every other Django storage by `django_storage` through its own `open` and `save`. Each is imported when
it is needed: nobody waits for obstore to list a folder.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from crunch_tasks.errors import SettingsError
from crunch_tasks.files.storage import TIMEOUT_S, Storage
from crunch_tasks.storage_settings import AZURE, GCS, S3


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
    # Subclasses go through their own open and save: they may change what a name or a byte means.
    if name in (S3.dotted, GCS.dotted, AZURE.dotted):
        from crunch_tasks.files import object_store

        return object_store.open_object_store(django_storage, timeout_s)
    from crunch_tasks.files.django_storage import DjangoStorage

    return DjangoStorage(make, django_storage, timeout_s)


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
