"""Files that go straight into a dataset's storage, where that signs addresses: S3, Google Cloud, Azure.

    page or program               server                           storage
    begin: name, size, MD5   ->   refuses, or signs an address
    PUT of the bytes         ->                                    an object of a new name, outside of all datasets
    end: the ticket          ->   refuses, or looks at the object
                                  and copies it to its name   ->   a file of the dataset

What a run takes for data is written at the end only, within the storage, after all that `uploads` looks at was looked
at again. Whoever has an address can put one file's bytes where nothing reads them, and what never ends is removed.
"""

from __future__ import annotations

import contextlib
import functools
import re
import secrets
import time
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from django.core import signing

from crunch_tasks.errors import CrunchError, Refused, TransferError
from crunch_tasks.files.reading import stat_file
from crunch_tasks.files.storage import TIMEOUT_S, Storage
from crunch_tasks.files.verify import md5_by_reading
from server.models import Dataset
from server.permissions import Actor
from server.services import files
from server.services.uploads import (
    Arrived,
    alone,
    noted,
    refuse_changed,
    refuse_name,
    refuse_taken,
    refuse_too_large,
    refuse_unready,
)

ARRIVING = ".crunch-uploads/"
"""Where files are put first, in the storage's top folder: every dataset's prefix begins with a project's slug."""

TICKET_S = 24 * 3600
"""How long after its begin an upload may end, in seconds: 5 GB take so long at 60 kB/s."""

THROUGH_SERVER = "Send the file through the server."
_SALT = "crunch.upload"
_MD5 = re.compile(r"[0-9a-f]{32}")
_NOTHING = "d41d8cd98f00b204e9800998ecf8427e"
"""The MD5 of no bytes."""


@dataclass(frozen=True)
class Begun:
    """Where to PUT the bytes, with which headers, and the ticket to end with."""

    address: str
    headers: dict[str, str]
    ticket: str


@functools.lru_cache(maxsize=4)
def origin(storage: Storage) -> str:
    """Where the storage takes files (`https://host:port`), or "" when it signs no addresses."""
    signed = storage.signed_put(f"{ARRIVING}0", "x", 0, _NOTHING)
    parts = urlsplit(signed.address if signed else "")
    return f"{parts.scheme}://{parts.netloc}" if signed else ""


def begin(dataset: Dataset, path: str, size: int | None, md5: str, *, replace: bool) -> Begun:
    """An address for a file of `size` bytes. Raises Refused, and CrunchError of the storage."""
    if size is None or not _MD5.fullmatch(md5):
        raise Refused("Say how long the file is (size) and its sum (md5, 32 lower-case hex digits).", 400, "sum")
    refuse_too_large(size)
    refuse_unready(dataset)
    refuse_name(path)
    storage, _ = files.place(dataset)
    refuse_taken(storage, dataset, path, replace=replace)
    key = f"{ARRIVING}{secrets.token_hex(16)}"
    signed = storage.signed_put(key, path, size, md5)
    if signed is None:
        raise Refused(THROUGH_SERVER, 409, "through_server")
    ticket = {"dataset": dataset.pk, "path": path, "size": size, "md5": md5, "replace": replace, "key": key}
    return Begun(signed.address, dict(signed.headers), signing.dumps(ticket, salt=_SALT))


def end(actor: Actor, dataset: Dataset, path: str, ticket: str) -> Arrived:
    """Make what arrived a file of the dataset. Raises as `uploads.store` does.

    Whoever lost the answer may ask again, and is told the same as long as that file is the dataset's.
    """
    told = _read(ticket, dataset, path)
    key, arrived = told["key"], Arrived(path, told["size"], told["md5"])
    storage, prefix = files.place(dataset, TIMEOUT_S)
    # First of all: what somebody who asks again at once finds is the first one's, who is still at it.
    with alone(dataset, path):
        if stat_file(storage, key) is None:
            _refuse_other(dataset, arrived)
            return arrived
        try:
            if not _is_there(storage, key, arrived):
                raise Refused(f"{path!r} did not arrive as it was sent. {THROUGH_SERVER}", 409, "not_as_sent")
            fresh = Dataset.objects.get(pk=dataset.pk)
            refuse_taken(storage, fresh, path, replace=told["replace"])
            refuse_changed(fresh)
            storage.copy(key, prefix + path)
            # What is there instead is left: it may be somebody's who put it there by other ways.
            if not _is_there(storage, prefix + path, arrived):
                raise TransferError(f"{path!r} is not there as it was sent. Look at what is, and send it again.")
            storage.flush()
            return noted(actor, dataset, arrived)
        finally:
            _remove(storage, key)


def _refuse_other(dataset: Dataset, arrived: Arrived) -> None:
    """Raises Refused unless this file is among the dataset's, though nothing (any more) is where it was put first."""
    found = files.find(dataset, arrived.path)
    if found is None or not _is_there(found[0], found[1].key, arrived):
        raise Refused(
            f"{arrived.path!r} did not arrive, the end of this upload was refused before, or another file took its "
            "place. Look at what is there, and send it again.",
            409,
            "not_as_sent",
        )


def _read(ticket: str, owner: Dataset, path: str) -> dict[str, Any]:
    """What the begin of this upload wrote down. Raises Refused."""
    try:
        told: dict[str, Any] = signing.loads(ticket, salt=_SALT, max_age=TICKET_S)
    except signing.SignatureExpired:
        raise Refused("The upload took longer than a day. Send the file with: crunch push", 409, "expired") from None
    except signing.BadSignature:
        told = {}
    if (told.get("dataset"), told.get("path")) != (owner.pk, path):
        raise Refused("The ticket is not that of this file. Send the file again, from the start.", 400, "ticket")
    return told


def _is_there(storage: Storage, key: str, arrived: Arrived) -> bool:
    """Whether the object has these bytes, as the storage says or, where it says nothing, as reading them shows."""
    info = stat_file(storage, key)
    if info is None or info.size != arrived.size:
        return False
    told = info.md5 == arrived.md5 or storage.content_md5(key) == arrived.md5
    return told or md5_by_reading(storage, info.as_source()) == arrived.md5


def _remove(storage: Storage, key: str) -> None:
    """Remove what was put there for an upload that ended, and what others left that can end no more.

    A storage that does not answer keeps it until the next upload ends.
    """
    with contextlib.suppress(CrunchError):
        storage.delete(key)
        too_old = (time.time() - 2 * TICKET_S) * 1e9
        left = [info.key for info in storage.list_objects(ARRIVING) if (info.mtime_ns or too_old) < too_old]
        for old in left:
            storage.delete(old)
