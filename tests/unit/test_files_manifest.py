"""Manifests as values: documents that come back as they were, and diffs that leave nothing out."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crunch_tasks.errors import StorageError
from crunch_tasks.files.manifest import (
    AttemptPlan,
    Entry,
    Manifest,
    PublishedManifest,
    deleted_txt,
    diff,
)

MD5S = st.integers(0, 2**128 - 1).map(lambda number: f"{number:032x}")
PATHS = st.text(st.characters(exclude_categories=("Cs",)), min_size=1, max_size=8)
ENTRIES = st.builds(Entry, MD5S, st.integers(0, 2**63), st.integers(0, 2**63))
MANIFESTS = st.dictionaries(PATHS, ENTRIES, max_size=6).map(Manifest)


def entry(md5: str = "0" * 32, size: int = 1, mtime_ns: int = 1) -> Entry:
    return Entry(md5, size, mtime_ns)


@given(MANIFESTS)
def test_the_seeds_format_is_sorted_utf8_json_of_path_and_md5(manifest: Manifest) -> None:
    data = manifest.checksums_json()
    body = json.loads(data.decode("utf-8"))
    assert body == {path: found.md5 for path, found in manifest.items()}
    assert list(body) == sorted(body)


def test_the_seeds_format_keeps_names_readable() -> None:
    assert b"\xc3\xa4" in Manifest({"ä": entry()}).checksums_json()


@given(MANIFESTS, MANIFESTS)
def test_a_diff_puts_each_path_in_one_group(old: Manifest, new: Manifest) -> None:
    change = diff(old, new)
    groups = [change.added, change.modified, change.deleted, change.unchanged]
    assert sorted(path for group in groups for path in group) == sorted(old.keys() | new.keys())
    assert set(change.added) == new.keys() - old.keys()
    assert set(change.deleted) == old.keys() - new.keys()
    assert sum(change.stats.values()) == len(old.keys() | new.keys())


def test_a_new_time_alone_is_no_change() -> None:
    old = {"same": entry(mtime_ns=1), "other": entry("0" * 32), "longer": entry(size=1)}
    new = {"same": entry(mtime_ns=2), "other": entry("1" * 32), "longer": entry(size=2)}
    assert diff(old, new).unchanged == ("same",)
    assert diff(old, new).modified == ("longer", "other")


@given(MANIFESTS, st.lists(PATHS, unique=True, max_size=4), st.lists(PATHS, unique=True, max_size=4))
def test_documents_come_back_and_do_not_depend_on_order(files: Manifest, some: list[str], others: list[str]) -> None:
    published = PublishedManifest(3, 7, files, tuple(some), tuple(others))
    data = published.to_bytes()
    shuffled = PublishedManifest(
        3, 7, Manifest(dict(reversed(list(files.items())))), tuple(reversed(some)), tuple(sorted(others))
    )
    assert shuffled.to_bytes() == data
    assert PublishedManifest.from_bytes(data).to_bytes() == data
    assert PublishedManifest.from_bytes(data).files == files
    plan = AttemptPlan(3, 7, files, tuple(sorted(some)), tuple(sorted(others)))
    assert AttemptPlan.from_bytes(plan.to_bytes()) == plan


@pytest.mark.parametrize(
    "data",
    [
        b"", b"{", b"[]", b"null", b"\xff", b'{"format": 2}', b'{"format": 1, "fence": "1"}',
        b'{"format":1,"fence":1,"dataset":1,"files":{"a":{"md5":"x","size":1,"mtime_ns":1}},"modified":[],"deleted":[]}',
        b'{"format":1,"fence":1,"dataset":1,"files":{},"modified":[1],"deleted":[]}',
        b'{"format":1,"fence":true,"dataset":1,"files":{},"modified":[],"deleted":[]}',
    ],
)  # fmt: skip
def test_damaged_documents_are_said_to_be_damaged(data: bytes) -> None:
    with pytest.raises(StorageError):
        PublishedManifest.from_bytes(data)
    with pytest.raises(StorageError):
        AttemptPlan.from_bytes(data)


@given(st.lists(st.text("ab\\n\n", max_size=6), unique=True))
def test_deleted_txt_has_a_line_per_path_that_can_be_read_back(paths: list[str]) -> None:
    lines = deleted_txt(paths).decode().split("\n")[:-1]
    back = [line.replace("\\\\", "\0").replace("\\n", "\n").replace("\0", "\\") for line in lines]
    assert back == sorted(paths)


def test_deleted_txt_is_sorted_and_escaped() -> None:
    assert deleted_txt(["b", "a\nb", "c\\n"]) == b"a\\nb\nb\nc\\\\n\n"
    assert deleted_txt([]) == b""
