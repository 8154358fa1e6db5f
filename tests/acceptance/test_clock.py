"""X12. A client whose clock is a day off works as any other: times are the server's, and the client counts seconds."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import pytest

from tests.support.clock import shifted_clock
from tests.support.depth import long
from tests.support.site import GOOD_RUN, Site

DAY_S = 86_400


@pytest.mark.parametrize("days", [1, pytest.param(-1, marks=long)])
def test_a_clock_that_is_a_day_off_changes_nothing(site: Site, tmp_path: Path, days: int) -> None:
    # Longer than the lease, which has to be renewed meanwhile.
    project = site.add_project("P", "date +%s > now.txt\nsleep 3\necho more >> input.txt\n", lease_seconds=2)
    slug = site.add_dataset(project, "one", {"input.txt": b"x\n"})
    began = dt.datetime.now(dt.UTC)

    site.crunch("next", "--until", "+2h", **shifted_clock(tmp_path, days * DAY_S))

    took = dt.datetime.now(dt.UTC) - began
    told = int(site.read(slug, "now.txt")) - began.timestamp()
    assert abs(told - days * DAY_S) < DAY_S / 2, "the clock was not shifted"
    found = site.dataset(slug)
    assert (found["state"], found["attempt"], site.statuses(slug)) == ("completed", 0, GOOD_RUN)
    assert site.read(slug, "input.txt") == b"x\nmore\n"
    rows = site.client.pages("api/statuses/", dataset=str(found["id"]))
    for created in (dt.datetime.fromisoformat(str(row["created"])) for row in rows):
        assert dt.timedelta() <= created - began <= took
