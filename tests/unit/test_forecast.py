"""How long a dataset is expected to take by its bytes, and what a client with an end remembers for that."""

from __future__ import annotations

from pathlib import Path

import pytest

from crunch_tasks.contract import Claim, WorkflowType
from crunch_tasks.errors import NoTime
from crunch_tasks.forecast import LAST, LEAST_BYTES, PastRun, expected_s
from crunch_tasks.settings import ClientSettings, client_settings
from flows.past_runs import PastRuns

MB = 10**6
HOUR = 3600.0


@pytest.mark.parametrize(
    ("size", "past", "seconds"),
    [
        pytest.param(100 * MB, [], 0, id="nothing is known"),
        pytest.param(100 * MB, [PastRun(MB, HOUR)] * 2, 0, id="too few to say"),
        pytest.param(10 * MB, [PastRun(MB, 60)] * 3, 600, id="larger than what was seen: in proportion"),
        pytest.param(MB // 10, [PastRun(MB, 60)] * 3, 60, id="smaller: no shorter"),
        pytest.param(MB, [*[PastRun(MB, 60)] * 4, PastRun(MB, HOUR)], 60, id="one odd run says nothing"),
        pytest.param(
            90 * MB, [*[PastRun(MB, 60)] * 45, *[PastRun(100 * MB, 70)] * 5], 70, id="large ones were as quick"
        ),
        pytest.param(
            100 * MB, [*[PastRun(MB, 5)] * 45, *[PastRun(50 * MB, HOUR)] * 5], 2 * HOUR, id="large ones were slow"
        ),
        pytest.param(2 * MB, [*[PastRun(MB, 5)] * 45, *[PastRun(500 * MB, HOUR)] * 5], 10, id="small ones are quick"),
        pytest.param(
            LEAST_BYTES, [PastRun(0, HOUR), PastRun(10, HOUR), PastRun(99, HOUR)], HOUR, id="few bytes are noise"
        ),
    ],
)
def test_it_takes_as_long_as_those_nearest_in_size(size: int, past: list[PastRun], seconds: float) -> None:
    assert expected_s(size, past) == pytest.approx(seconds)


def past_runs(settings: ClientSettings, site: str = "site", project: str = "p") -> PastRuns:
    dataset = {"id": 1, "slug": f"{project}:d", "base_file_path": "p/d"}
    where = {"site": site, "dataset": dataset, "project": {"slug": project}}
    what = {"workflow": "true", "workflow_type": WorkflowType.SCRIPT, "workflow_sha256": ""}
    return PastRuns(settings, Claim(claim=1, fence=1, ttl_s=60, heartbeat_s=20, **where, **what))  # type: ignore[arg-type]


@pytest.fixture
def in_an_hour(tmp_path: Path) -> ClientSettings:
    return client_settings(directory=tmp_path, until="+1h")


def test_what_would_not_be_done_before_the_end_is_left_to_others(in_an_hour: ClientSettings) -> None:
    past = past_runs(in_an_hour)
    for _ in range(3):
        past.note(MB, 600)
    past.check(5 * MB)
    with pytest.raises(NoTime, match=r"p:d has 10000000 bytes and, by earlier runs here, may take 1:40:00; "):
        past.check(10 * MB)
    # Of another project, or of another server's project of that name, nothing is known.
    past_runs(in_an_hour, project="q").check(10 * MB)
    past_runs(in_an_hour, site="another").check(10 * MB)


def test_without_an_end_nothing_is_remembered_or_left(in_an_hour: ClientSettings) -> None:
    endless = client_settings(directory=in_an_hour.directory)
    past_runs(endless).note(MB, 600)
    assert not list(in_an_hour.directory.iterdir())
    for _ in range(3):
        past_runs(in_an_hour).note(MB, 600)
    past_runs(endless).check(10**15)


def test_only_the_last_runs_are_remembered_and_a_torn_file_is_as_none(in_an_hour: ClientSettings) -> None:
    past = past_runs(in_an_hour)
    for _ in range(LAST):
        past.note(MB, 600)
    for _ in range(LAST):
        past.note(MB, 1)
    past.check(10 * MB)
    (kept,) = in_an_hour.directory.rglob("p.json")
    assert kept.read_text().count("[") == LAST + 1
    for text in ("", "[]", '{"site": "site", "runs": [1]}', '{"site": "site", "runs": [[1, "x"]]}'):
        kept.write_text(text)
        past.check(10 * MB)
    past.note(MB, 600)
    assert "600" in kept.read_text()
