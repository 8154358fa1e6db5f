"""Disks that are full, or become full: nothing is claimed in vain, and what fails says how much is free."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.disk import mounted_tiny_disk
from tests.support.site import Site

# As tools do that do not look whether what they wrote was written.
FILLS = """#!/bin/bash
head -c 2000000 /dev/zero > big 2> /dev/null
touch {ended}
exec sleep 1000
"""


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    with mounted_tiny_disk(tmp_path / "tiny") as place:
        yield place


def test_a_full_disk_fails_one_dataset_at_most_and_claims_no_other(site: Site, tmp_path: Path, tiny_disk: Path) -> None:
    project = site.add_project("P", FILLS.format(ended=tmp_path / "ended"))
    large, small, waits = (
        site.add_dataset(project, name, {"input": b"x" * size})
        for name, size in {"large": 2_000_000, "small": 1, "waits": 1}.items()
    )
    here = ("--directory", str(tiny_disk / "work"), "--json")

    done = site.crunch("loop", *here, code=1)
    assert "bytes free, and 200000000 are to stay free (CRUNCH_LOW_WATER)" in done.stderr
    assert "crunch clean" in done.stderr and "--cleanup" in done.stderr and "No dataset was claimed" in done.stderr
    assert all(site.dataset(slug)["state"] == "unprocessed" for slug in (large, small, waits))

    # The input does not fit, so others may try; the output does not; then the disk is full, and nobody tries the third.
    done = site.crunch("loop", *here, code=1, CRUNCH_LOW_WATER="300 kB")
    assert done.stderr.count("✗") == 2, done.stderr
    assert "no room" in done.stderr and "bytes are needed" in done.stderr and "are free" in done.stderr
    assert "300000 are to stay free" in done.stderr and "No dataset was claimed" in done.stderr
    assert (site.statuses(large), site.dataset(large)["state"]) == ([(1, 1)], "unprocessed")
    assert list((tiny_disk / "work" / ".state" / "p" / "large" / "partial").iterdir()) == []
    assert (tmp_path / "ended").exists()
    assert site.statuses(small) == [(1, 1), (1, 2), (2, 1), (2, 3)]
    note = site.notes(small)[-1]
    disk = re.escape(f"The disk of {tiny_disk / 'work' / 'p' / 'small'}")
    assert re.search(rf"{disk} has \d{{1,5}} bytes free, and 300000 are to stay free", note), note
    assert f"Its files stay in {tiny_disk / 'work' / 'p' / 'small'}." in done.stderr
    assert site.files(small) == {"input": b"x"}
    assert site.dataset(waits)["state"] == "unprocessed"


def test_a_folder_that_cannot_be_one_is_said_before_anything_is_claimed(site: Site, tmp_path: Path) -> None:
    slug = site.add_dataset(site.add_project("P", "true\n"), "one", {"input": b"x"})
    for place in (tmp_path / "file", tmp_path / "file" / "below", tmp_path / "work"):
        (tmp_path / "file").touch()
        (tmp_path / "work").mkdir(exist_ok=True)
        (tmp_path / "work" / ".state").touch()
        done = site.crunch("next", "--directory", str(place), code=1)
        assert f"The directory {place} cannot be written" in done.stderr
        assert "Choose another --directory" in done.stderr
    assert site.dataset(slug)["state"] == "unprocessed"
    assert site.statuses(slug) == []


def test_a_full_storage_fails_upload_and_what_was_published_stays(site: Site, tmp_path: Path, tiny_disk: Path) -> None:
    site.storage_settings = tmp_path / "tiny.toml"
    site.storage_settings.write_text(f'MEDIA_ROOT = "{tiny_disk}"\n')
    slug = site.add_dataset(site.add_project("P", "head -c ${BYTES:-10} /dev/zero > out\n"), "one", {"input": b"x"})
    site.crunch("next")
    before, manifest = site.files(slug), site.read(slug, ".crunch/manifest-1.json")

    done = site.crunch("run", slug, code=1, BYTES="2000000")

    assert site.statuses(slug)[-2:] == [(3, 1), (3, 3)]
    note = site.notes(slug)[-1]
    assert "The storage is full: " in note and "needs 2000000 bytes" in note and "are free" in note
    assert f"Its files stay in {site.directory / 'p' / 'one'}." in done.stderr
    assert (site.files(slug), site.read(slug, ".crunch/manifest-1.json")) == (before, manifest)
    assert site.dataset(slug)["manifest_fence"] == 1
    assert list(tiny_disk.rglob("*crunch-part*")) == []
