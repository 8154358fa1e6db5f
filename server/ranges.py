"""What part of a file a request asks for (RFC 9110, section 14): one range of its bytes, or all of it. Pure."""

from __future__ import annotations

import re

_ONE = re.compile(r"bytes=(\d{0,30})-(\d{0,30})", re.ASCII | re.IGNORECASE)


class Unsatisfiable(Exception):
    """The range begins after the file's end."""


def asked(told: str, if_range: str, etag: str, size: int) -> range | None:
    """The positions of the bytes to send, or None for the whole file. Raises Unsatisfiable.

    `told` and `if_range` are the headers Range and If-Range, "" without one; `etag` is the file's, "" when it has none.

    | Range                                     | then          |
    |-------------------------------------------|---------------|
    | none, or another If-Range than the ETag   | the whole     |
    | several, malformed, of other units        | the whole     |
    | of an empty file                          | the whole     |
    | `bytes=2-5`, `bytes=2-`, `bytes=-3`       | the part that the file has of it |
    | one that begins after the end, `bytes=-0` | Unsatisfiable |
    """
    found = _ONE.fullmatch(told)
    if found is None or size == 0 or (if_range and if_range != etag):
        return None
    first, last = found[1], found[2]
    if not first:
        return _tail(int(last), size) if last else None
    if last and int(last) < int(first):
        return None
    if int(first) >= size:
        raise Unsatisfiable
    return range(int(first), min(int(last) + 1, size) if last else size)


def goes_on(told: str) -> bool:
    """Whether it is the rest of a file, as who was interrupted asks for it: `bytes=2-`."""
    found = _ONE.fullmatch(told)
    return found is not None and bool(found[1]) and not found[2]


def _tail(count: int, size: int) -> range:
    if count == 0:
        raise Unsatisfiable
    return range(max(0, size - count), size)
