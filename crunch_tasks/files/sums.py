"""What S3 makes of an object's bytes: their MD5 or, of an object sent in parts, the MD5 of the parts' MD5s.

Pure. The second one is `HEX-COUNT` and depends on how many bytes each part had, which S3 does not say in a listing.
Source of the rule: observed on AWS and SeaweedFS; both make `md5(md5(part 1) + md5(part 2) + ...)-COUNT`.
"""

from __future__ import annotations

import hashlib
import re

MIB = 1024 * 1024

USUAL_PARTS_MIB = (8, 50, 5, 16, 15, 10, 32, 64, 20, 25, 100, 128, 256, 512)
"""Defaults of tools, the most usual first: 8 is ours, the AWS command line's and boto3's, 50 s5cmd's, 5 rclone's."""

_MD5_ETAG = re.compile(r'"?([0-9a-f]{32})"?')
_PARTS_ETAG = re.compile(r'"?([0-9a-f]{32}-([1-9]\d*))"?')


def md5_of(etag: str | None) -> str | None:
    """The MD5 that the ETag of an object sent as a whole is, or None when it has another form."""
    found = _MD5_ETAG.fullmatch(etag or "")
    return found[1] if found else None


def sum_of_parts(etag: str | None) -> str | None:
    """The `HEX-COUNT` that the ETag of an object sent in parts is, or None when it has another form."""
    found = _PARTS_ETAG.fullmatch(etag or "")
    return found[1] if found else None


def likely_part(size: int, sum_of_parts: str) -> int:
    """How many bytes each part had, most likely: a usual number that makes as many parts, or the first whole MiB."""
    count = int(sum_of_parts.partition("-")[2])
    for mib in USUAL_PARTS_MIB:
        if -(-size // (mib * MIB)) == count:
            return mib * MIB
    return max(1, -(-size // (count * MIB))) * MIB


class PartSum:
    """The sum of an object sent in parts of `part` bytes, as its bytes come by."""

    def __init__(self, part: int) -> None:
        self.part = part
        self._parts = hashlib.md5(usedforsecurity=False)
        self._current = hashlib.md5(usedforsecurity=False)
        self._left = part
        self._count = 0

    def update(self, data: bytes | memoryview) -> None:
        rest = memoryview(data)
        while len(rest) >= self._left:
            self._current.update(rest[: self._left])
            rest = rest[self._left :]
            self._parts.update(self._current.digest())
            self._count += 1
            self._current, self._left = hashlib.md5(usedforsecurity=False), self.part
        self._current.update(rest)
        self._left -= len(rest)

    def result(self) -> str:
        """`HEX-COUNT` of all bytes so far."""
        if self._left == self.part:
            return f"{self._parts.hexdigest()}-{self._count}"
        parts = self._parts.copy()
        parts.update(self._current.digest())
        return f"{parts.hexdigest()}-{self._count + 1}"
