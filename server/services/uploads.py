"""Files that a person sends to a dataset's place in the storage, as inputs of its next run.

One request for each file, its bytes as the body, through a temporary file, not memory; `direct_uploads` is the shorter
way where the storage takes files from others. Nothing is replaced that was not asked to be, and nothing that a run
published, ever; nothing is written while a client has the dataset.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import IO, Any

from django.http import HttpRequest
from django.utils import timezone

from crunch_tasks.contract import DatasetState
from crunch_tasks.errors import Refused
from crunch_tasks.files import reading
from crunch_tasks.files.checksums import FileContent
from crunch_tasks.files.paths import is_internal, name_problem
from crunch_tasks.files.plan import TAKE_FILES
from crunch_tasks.files.storage import BLOCK, LARGE, TIMEOUT_S, Storage
from server.limits import no_room
from server.models import Dataset, Item
from server.permissions import Actor
from server.services import audit, files
from server.services.only_one import only_one

MOST_BYTES = 5 * 1024**3
"""The largest file that is taken, in bytes. `crunch push` sends larger ones, and goes on where it was interrupted."""


def takes_files(dataset: Dataset) -> bool:
    """Whether files may be added now: nobody has the dataset, and its next run is still to come."""
    return dataset.state == DatasetState.UNPROCESSED.value and dataset.claim_id is None


@dataclass(frozen=True)
class Arrived:
    """A file that is there as it was sent."""

    path: str
    size: int
    md5: str


def store(
    actor: Actor,
    dataset: Dataset,
    path: str,
    request: HttpRequest,
    *,
    replace: bool,
    check: Callable[[], None] = lambda: None,
) -> Arrived:
    """Put the request's body there as this file; with `replace` also in place of one that was added earlier.

    `check` raises when its sender does not want it there; it looks before the body is read, and while nobody else sends
    this file.

    Raises Refused, CrunchError of the storage, and Dataset.DoesNotExist when it was deleted meanwhile.
    """
    size = _announced(request)
    refuse_unready(dataset)
    refuse_name(path)
    storage, prefix = files.place(dataset, TIMEOUT_S)
    check()
    refuse_taken(storage, dataset, path, replace=replace)
    with tempfile.SpooledTemporaryFile(LARGE) as file:
        md5 = _receive(request, size, file)
        content: Any = FileContent(file, path, size, md5)  # type: ignore[arg-type]
        with alone(dataset, path):
            check()
            # While the body came, a run may have published something, and the dataset may wait for its next one again.
            fresh = Dataset.objects.get(pk=dataset.pk)
            refuse_taken(storage, fresh, path, replace=replace)
            storage.send(content, prefix + path, lambda: refuse_changed(fresh))
            storage.flush()
    return noted(actor, dataset, Arrived(path, size, md5))


def noted(actor: Actor, dataset: Dataset, arrived: Arrived) -> Arrived:
    """Write in the audit trail that the file is there; open pages of the dataset list its files anew."""
    Item.objects.filter(pk=dataset.pk).update(modified=timezone.now())
    after = {"file": arrived.path, "bytes": arrived.size}
    audit.note(actor, "upload", dataset.slug, dataset.project, after=after)
    return arrived


def alone(dataset: Dataset, path: str) -> AbstractContextManager[None]:
    """Of two who send a file of one name, the second is refused: each would take its own for the one that is there."""
    refusal = f"Somebody else is sending {path!r} at this moment. Look at what is there, and send it again."
    return only_one(f"{dataset.pk}/{path}", refusal)


def _announced(request: HttpRequest) -> int:
    """The file's size in bytes, as its sender says it. Raises Refused."""
    if request.content_type != "application/octet-stream":
        raise Refused("Send the file's bytes as application/octet-stream.", 415, "media_type")
    size = whole_number(request.META.get("CONTENT_LENGTH") or "")
    if size is None:
        raise Refused("Say how long the file is (Content-Length).", 411, "length")
    refuse_too_large(size)
    return size


def whole_number(text: str) -> int | None:
    """The number of bytes that a sender tells, or None when it tells none."""
    return int(text) if text.isascii() and text.isdigit() and len(text) < 20 else None


def refuse_too_large(size: int) -> None:
    """Raises Refused for more than MOST_BYTES bytes."""
    if size > MOST_BYTES:
        most = f"{MOST_BYTES // 1024**3} GB"
        raise Refused(f"The file is larger than {most}. Send it with: crunch push", 413, "too_large")


def refuse_unready(dataset: Dataset) -> None:
    """Raises Refused unless the dataset takes files."""
    if not takes_files(dataset):
        raise Refused(
            f"{dataset.slug} is {dataset.state}: files are only added before a run. Wait, or retry it first.",
            409,
            "not_unprocessed",
        )


def refuse_changed(dataset: Dataset) -> None:
    """Raises Refused unless the dataset takes files and no run has had it since the row was read."""
    now = Dataset.objects.get(pk=dataset.pk)
    refuse_unready(now)
    if now.fence != dataset.fence:
        raise Refused(f"A run has had {now.slug} meanwhile. Look at its files, and send it again.", 409, "busy")


def refuse_name(path: str) -> None:
    """Raises Refused for a name that no file of a dataset may have."""
    problem = name_problem(path) or ("such names are Crunch's own" if is_internal(path) else None)
    if "\N{REPLACEMENT CHARACTER}" in path:
        # An ASGI server, and a browser, put it for bytes that they cannot read: different names would become one.
        problem = "it is not UTF-8, or has the character U+FFFD, which stands for what is not"
    if problem:
        raise Refused(f"{path!r} cannot be used as a name: {problem}. Rename the file.", 400, "name")


def refuse_taken(storage: Storage, dataset: Dataset, path: str, *, replace: bool) -> None:
    """Raises Refused when the file would replace another, or would not be an input of the next run as it is here."""
    base, sha256, fence = reading.place_of(files.body(dataset))
    if sha256:
        committed = reading.read_committed(storage, base, sha256, fence)
        if path in reading.names(committed):
            raise Refused(
                f"The last run published {path!r}, and no published file is replaced from here. Put it into the "
                f"storage by hand and {TAKE_FILES}.",
                409,
                "published",
            )
        if path in committed.deleted:
            raise Refused(f"An earlier run deleted {path!r}. First {TAKE_FILES}.", 409, "deleted")
    if path in reading.left_behind(storage, base, fence):
        raise Refused(f"A run that did not end left {path!r}. First {TAKE_FILES}.", 409, "left_behind")
    for folder in _parents(path):
        if reading.stat_file(storage, base + folder):
            raise Refused(f"{folder!r} is a file there, so it cannot be a folder too. Rename one.", 409, "name")
    if reading.stat_file(storage, base + path):
        if not replace:
            raise Refused(f"There is a file {path!r} already. Choose to replace files, or rename it.", 409, "exists")
    elif next(storage.list_objects(f"{base}{path}/"), None):
        raise Refused(f"{path!r} is a folder there, so it cannot be a file too. Rename one.", 409, "name")


def _parents(path: str) -> Iterator[str]:
    parts = path.split("/")
    return ("/".join(parts[:end]) for end in range(1, len(parts)))


def _receive(request: HttpRequest, size: int, file: IO[bytes]) -> str:
    """Write the request's body to `file`; its MD5. Raises Refused when it is cut short or there is no room."""
    digest = hashlib.md5(usedforsecurity=False)
    received = 0
    while block := request.read(BLOCK):
        digest.update(block)
        _write(file, block)
        received += len(block)
    if received != size:
        raise Refused(f"Only {received} of {size} bytes arrived. Send the file again.", 400, "cut_short")
    return digest.hexdigest()


def _write(file: IO[bytes], block: bytes) -> None:
    try:
        file.write(block)
        # At once: nobody would explain what a later read finds not to be written.
        file.flush()
    except OSError as error:
        raise no_room(error) from error
