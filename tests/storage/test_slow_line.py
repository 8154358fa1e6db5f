"""A line to S3 that drips is given up, naming the object and the least rate; one that is slow but honest is not."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from crunch_tasks.errors import TimedOut, TooSlow
from crunch_tasks.files.download import download
from crunch_tasks.files.opening import open_storage
from crunch_tasks.files.pace import patience_for
from tests.support.depth import long
from tests.support.line import made, send, sources
from tests.support.proxy import Fault, Proxy, proxy
from tests.support.seaweed import SeaweedS3

pytestmark = pytest.mark.slow

MIB = 1024 * 1024
DRIP_S = 0.02
TIMEOUT_S = 1.0
"""A read has to move on in 0.8 s then, one request of a write ends after 0.4."""

FILES = {"small": os.urandom(1000), "big": os.urandom(MIB) * 9}


@pytest.fixture
def line(s3: SeaweedS3) -> Iterator[Proxy]:
    with proxy(s3.endpoint) as running:
        yield running


@pytest.mark.parametrize("name", FILES)
def test_a_read_that_drips_is_given_up_and_says_how_slow_it_was(
    s3: SeaweedS3, bucket: str, line: Proxy, tmp_path: Path, name: str
) -> None:
    send(open_storage(s3.storage(bucket)), made(tmp_path / "there", FILES))
    storage = open_storage(s3.storage(bucket, endpoint_url=line.endpoint), timeout_s=TIMEOUT_S)
    work = made(tmp_path / "work", {})
    wanted = sources(storage, name)
    line.faults = [Fault("GET", f"/{name}", drip=DRIP_S)]
    with pytest.raises(TooSlow, match=rf"'p/d/{name}' came too slowly from S3 bucket.*bytes in 0.8 s \(\d+.\d kB/s\)"):
        download(storage, wanted, work)
    assert not (work.root / name).exists()
    # One connection that drips is not yet a line that does.
    line.faults = [Fault("GET", f"/{name}", drip=DRIP_S, times=1)]
    download(storage, wanted, work)
    assert (work.root / name).read_bytes() == FILES[name]


def test_a_listing_and_a_write_that_drip_are_given_up(s3: SeaweedS3, bucket: str, line: Proxy, tmp_path: Path) -> None:
    there = made(tmp_path / "there", FILES)
    send(open_storage(s3.storage(bucket)), there)
    storage = open_storage(s3.storage(bucket, endpoint_url=line.endpoint), timeout_s=TIMEOUT_S)
    line.faults = [Fault("GET", "list-type=2", drip=DRIP_S)]
    with pytest.raises(TimedOut, match="'p/d/' was not transferred in time"):
        sources(storage)
    line.faults = [Fault("PUT", "/small", drip=DRIP_S)]
    with pytest.raises(TimedOut, match="'p/d/small' was not transferred in time"):
        send(storage, there)


@long
def test_an_honest_slow_line_brings_all_both_ways(s3: SeaweedS3, bucket: str, line: Proxy, tmp_path: Path) -> None:
    """In the time that one request has, the line moves one part, and not three; one small file, and not all."""
    files = {f"half-{number}": os.urandom(MIB // 2) for number in range(32)} | {"big": os.urandom(MIB) * 20}
    storage = open_storage(s3.storage(bucket, endpoint_url=line.endpoint), timeout_s=3.0)
    line.rate = 12e6
    send(storage, made(tmp_path / "there", files))

    hasty = open_storage(s3.storage(bucket, endpoint_url=line.endpoint), timeout_s=1.5)
    line.rate = 4e6
    halves = sources(hasty, *(f"half-{number}" for number in range(12)))
    assert sum(source.size for source in halves.values()) > line.rate * patience_for(1.5), "more than comes at once"
    work = made(tmp_path / "work", {})
    download(hasty, halves, work)
    line.rate = 12e6
    download(hasty, sources(hasty), work)
    assert {name: (work.root / name).read_bytes() for name in files} == files
