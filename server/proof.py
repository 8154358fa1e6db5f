"""The bytes of a file whose MD5 is known: the last of them come only when all of it, as it is now, has that MD5.

Who is sent another file gets less than was announced, and every program takes that for a failure.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Generator

from crunch_tasks.errors import Altered, TransferError
from crunch_tasks.files.plan import MEND, Source
from crunch_tasks.files.storage import Block, Storage
from crunch_tasks.files.verify import Arrived, verify


def proven(storage: Storage, source: Source, start: int = 0) -> Generator[Block]:
    """The bytes from the one at `start` on, for who has those before it: these are read too, as they count.

    Raises Altered before the last of them when something else wrote over a published file, else TransferError.
    """
    digest, size, held = hashlib.md5(usedforsecurity=False), 0, None
    for block in storage.iter_bytes(source):
        digest.update(block)
        before, size = size, size + len(block)
        if size <= start:
            continue
        if held is not None:
            yield held
        held = block[max(0, start - before) :]
    try:
        verify(storage, source, Arrived(size, digest.hexdigest()))
    except TransferError as error:
        if source.is_md5_published:
            raise Altered(f"{error}. {MEND}") from None
        raise
    if held is not None:
        yield held


def prove(storage: Storage, source: Source) -> None:
    """Read all of it. Raises what `proven` does."""
    deque(proven(storage, source), maxlen=0)
