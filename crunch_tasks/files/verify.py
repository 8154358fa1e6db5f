"""Whether what arrived is what was stored, by all that anyone knows of it: size, MD5, or the sum of its parts."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

from crunch_tasks.errors import TransferError
from crunch_tasks.files.parallel import Check
from crunch_tasks.files.storage import Source, Storage
from crunch_tasks.files.sums import PartSum, likely_part, sum_of_parts


@dataclass(frozen=True)
class Arrived:
    """What came of an object: size in bytes, MD5, the sum of its parts if it was made, and how to make another one."""

    size: int
    md5: str
    parts: PartSum | None = None
    parts_of: Callable[[int], str] = lambda _: ""


def part_sum_for(source: Source) -> PartSum | None:
    """What to make on the way where only the sum of its parts can tell whether an object arrives right."""
    wanted = None if source.md5 else sum_of_parts(source.tag)
    return PartSum(likely_part(source.size, wanted)) if wanted else None


def verify(storage: Storage, source: Source, arrived: Arrived) -> None:
    """Raises TransferError, with both sums, when the bytes are not those of the object.

    | source's MD5          | sum of its parts        | the storage's word on it    | then                     |
    |-----------------------|-------------------------|-----------------------------|--------------------------|
    | equal                 |                         |                             | right                    |
    | another               |                         | the ETag is no MD5 at all   | right if same version    |
    | another               |                         | otherwise                   | wrong                    |
    | unknown               | equal                   |                             | right                    |
    | unknown               | another                 | tells the size of a part    | right if equal with that |
    | unknown               | another                 | does not, or unequal parts  | right if same version    |
    | unknown               | none                    | tells a Content-MD5         | right if equal           |
    | unknown               | none                    | does not                    | right if same version    |
    """
    if arrived.size != source.size:
        raise TransferError(
            f"{source.key!r} arrived with {arrived.size} bytes instead of {source.size}: it was cut short, or changed"
        )
    if source.md5 is not None:
        # A sum from a listing may be none, as the storage says when it is asked: S3 with some encryptions.
        is_proof = arrived.md5 == source.md5 or source.is_md5_published or storage.tells_md5(source.key)
        what, found, wanted = "its MD5", arrived.md5, source.md5
    else:
        is_proof, found = _by_parts(storage, source, arrived)
        what, wanted = "the sum of its parts", sum_of_parts(source.tag) or ""
        if arrived.parts is None and (told := storage.content_md5(source.key)):
            is_proof, what, found, wanted = True, "its MD5", arrived.md5, told
    if is_proof and found != wanted:
        raise TransferError(f"{source.key!r} arrived wrong: {what} is {found}, expected {wanted}")
    if not is_proof:
        now = storage.stat(source.key)
        if now is None or now.tag != source.tag:
            raise TransferError(f"{source.key!r} changed while it was being read; run again when nothing writes to it")


def _by_parts(storage: Storage, source: Source, arrived: Arrived) -> tuple[bool, str]:
    """Whether the sum of its parts proves anything, and what it is."""
    if arrived.parts is None:
        return False, ""
    found, wanted = arrived.parts.result(), sum_of_parts(source.tag) or ""
    if found == wanted:
        return True, found
    part = storage.part_of(source)
    if part is None or not storage.tells_md5(source.key):
        return False, ""
    if part != arrived.parts.part:
        found = arrived.parts_of(part)
    # Other counts tell that its parts were of unequal size.
    return found.partition("-")[2] == wanted.partition("-")[2], found


def md5_by_reading(storage: Storage, source: Source, check: Check = lambda: None) -> str:
    """The MD5 of an object's bytes, in lower-case hex; `check` is called between blocks and may raise."""
    digest = hashlib.md5(usedforsecurity=False)
    for block in storage.iter_bytes(source):
        check()
        digest.update(block)
    return digest.hexdigest()
