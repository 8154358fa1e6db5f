"""What part of a file is sent for which Range and If-Range."""

from __future__ import annotations

import pytest

from server.ranges import Unsatisfiable, asked

ETAG = '"0123"'


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        ("bytes=0-0", "0"),
        ("bytes=2-5", "2345"),
        ("bytes=2-", "23456789"),
        ("bytes=2-99999999999999999999999", "23456789"),
        ("bytes=9-9", "9"),
        ("bytes=-3", "789"),
        ("bytes=-10", "0123456789"),
        ("bytes=-11", "0123456789"),
        ("Bytes=0-1", "01"),
    ],
)
def test_one_range_is_that_part_of_the_file(told: str, expected: str) -> None:
    part = asked(told, "", ETAG, 10)
    assert part is not None
    assert "0123456789"[part.start : part.stop] == expected


@pytest.mark.parametrize(
    "told",
    [
        *("", "bytes", "bytes=", "bytes=-", "bytes=a-b", "bytes=5-2", "bytes=0-1,3-4", "bytes=0-1,", "bytes= 0-1"),
        *("lines=0-1", "bytes=+1-2", "bytes=1-٢", "bytes=" + "9" * 5000 + "-", "bytes=0x1-2"),
    ],
)
def test_what_is_not_understood_is_answered_with_the_whole_file(told: str) -> None:
    assert asked(told, "", ETAG, 10) is None


@pytest.mark.parametrize("told", ["bytes=10-", "bytes=10-20", "bytes=99-", "bytes=-0"])
def test_a_range_after_the_end_is_none(told: str) -> None:
    with pytest.raises(Unsatisfiable):
        asked(told, "", ETAG, 10)


@pytest.mark.parametrize("told", ["bytes=0-", "bytes=5-", "bytes=-1", "bytes=-0"])
def test_an_empty_file_is_sent_whole(told: str) -> None:
    assert asked(told, "", ETAG, 0) is None


@pytest.mark.parametrize("if_range", ['"other"', f"W/{ETAG}", "Wed, 21 Oct 2026 07:28:00 GMT", "*"])
def test_a_part_of_another_version_is_not_continued(if_range: str) -> None:
    assert asked("bytes=2-5", if_range, ETAG, 10) is None
    assert asked("bytes=2-5", ETAG, ETAG, 10) == range(2, 6)
    assert asked("bytes=2-5", ETAG, "", 10) is None, "a file without an ETag may be any"
