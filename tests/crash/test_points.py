"""Every named point: a client is killed, stopped or told to stop there, another one follows, and nothing differs.

`make test` takes a sample of the cases, `make test-all` every point, each as often as a run gets there.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import httpx
import psutil
import pytest

from crunch_tasks.crash import SERVER_POINTS, VARIABLE, Point
from tests.crash.walk import INPUTS, RESULTS, Case, Walker
from tests.support.depth import sample, whole
from tests.support.fixtures import running_site, write_storage_settings
from tests.support.forks import Forks
from tests.support.servers import CrunchServer
from tests.support.site import GOOD_RUN, until

OF_A_STOP = frozenset({Point.WORK_SENT, Point.WORK_SAVED, Point.RELEASED, Point.SAVED_WORK_FETCHED})
"""Reached by a run that is told to stop, and the one after it: see test_stops.py."""

CLIENT_POINTS = [point for point in Point if point not in SERVER_POINTS | OF_A_STOP]
CASES = (
    *(Case(point, same=same) for point in CLIENT_POINTS for same in (True, False)),
    *(Case(point, signal=name, same=False) for point in CLIENT_POINTS for name in ("STOP", "TERM", "INT")),
)


def cases(most: int, *signals: str) -> list[Case]:
    return sample([case for case in CASES if case.signal in signals], most)


@pytest.fixture(scope="module", params=["folder", "s3"] if whole() else ["s3"])
def walker(
    request: Any,
    s3: Any,
    prefect_api: str,
    fresh_server: CrunchServer,
    forks: Forks,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Walker]:
    folder = tmp_path_factory.mktemp("walk")
    settings = write_storage_settings(folder, s3 if request.param == "s3" else None)
    with running_site(folder, settings, prefect_api, fresh_server, forks) as site:
        yield Walker(site, folder / "folders")


@pytest.fixture(scope="module")
def undisturbed(walker: Walker) -> dict[str, Any]:
    """What lies in the storage after a run that nobody disturbed."""
    slug = walker.add()
    assert walker.run(slug, "first") == 0
    assert walker.read(slug) == RESULTS
    assert walker.site.files(slug) == RESULTS | {"gone.txt": INPUTS["gone.txt"]}
    assert walker.site.statuses(slug, effective=False) == GOOD_RUN
    return walker.stored(slug)


def finish(walker: Walker, slug: str, where: str) -> None:
    """The next commands, until the dataset is completed: one is enough, or two where the first one only tells."""
    for _ in range(2):
        if walker.site.dataset(slug)["state"] != "completed":
            code = walker.run(slug, where)
            assert code in (0, 3), f"exit code {code}"
    assert walker.site.dataset(slug)["state"] == "completed"


def same_as_undisturbed(walker: Walker, slug: str, undisturbed: dict[str, Any]) -> None:
    assert walker.read(slug) == RESULTS
    # What the first client could not say any more, and what its commit left to do.
    walker.sync(slug, "first")
    assert walker.torn(slug, "first") == []
    assert walker.stored(slug) == undisturbed
    effective = walker.site.statuses(slug)
    assert effective.count((3, 2)) == 1 and effective[-1] == (3, 2)
    assert [stage_state for stage_state in effective if stage_state[1] == 3] == []
    # The last run's statuses are whole and in order.
    assert effective[-len(GOOD_RUN) :] == GOOD_RUN
    assert walker.site.dataset(slug)["state"] == "completed"


def killed(walker: Walker, case: Case, undisturbed: dict[str, Any]) -> bool:
    """Kill a client there, go on, compare; False when no client gets there so often."""
    slug = walker.add()
    code = walker.run(slug, "first", **case.environment)
    if code == 0:
        return False
    assert code == -signal.SIGKILL
    if not case.same:
        walker.site.expire(slug)
    finish(walker, slug, "first" if case.same else "second")
    same_as_undisturbed(walker, slug, undisturbed)
    if case.same:
        # The same claim went on, and each of its statuses is there once.
        assert walker.site.statuses(slug, effective=False) == GOOD_RUN
    return True


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("case", cases(3, "KILL"), ids=str)
def test_killed_anywhere(walker: Walker, undisturbed: dict[str, Any], case: Case) -> None:
    assert killed(walker, case, undisturbed), "no client gets there"
    if whole():
        nth = 2
        while killed(walker, replace(case, nth=nth), undisturbed):
            nth += 1


def test_what_a_killed_client_was_sending_arrives_late(walker: Walker, undisturbed: dict[str, Any]) -> None:
    slug = walker.add()
    assert walker.run(slug, "first", **Case(Point.PLAN_SENT).environment) == -signal.SIGKILL
    walker.site.expire(slug)
    finish(walker, slug, "second")
    walker.arrive_late(slug)
    same_as_undisturbed(walker, slug, undisturbed)
    # Prefect did not hear of its end, but from the client that followed.
    named = {"flow_runs": {"name": {"any_": [slug]}}}
    runs = httpx.post(f"{walker.site.prefect_api}/flow_runs/filter", json=named).json()
    assert sorted(run["state"]["type"] for run in runs) == ["COMPLETED", "CRASHED"]


@pytest.mark.parametrize("case", cases(1, "STOP"), ids=str)
def test_stopped_anywhere_and_continued_too_late(walker: Walker, undisturbed: dict[str, Any], case: Case) -> None:
    """K2: it stands still until another client has the dataset, then it goes on and finds out."""
    # A lease that runs out for real: its holder counts its time too, and writes nothing after it.
    slug = walker.add(lease_seconds=5)
    client = walker.start(slug, "first", **case.environment)
    process = psutil.Process(client.pid)
    until(lambda: client.poll() is not None or process.status() == psutil.STATUS_STOPPED, what="the stop")
    assert client.poll() is None, "no client gets there"
    until(lambda: walker.run(slug, "second") == 0 or walker.site.dataset(slug)["state"] == "completed", what="the rest")
    if walker.site.dataset(slug)["manifest_fence"] > 1:
        walker.arrive_late(slug)
    os.kill(client.pid, signal.SIGCONT)
    _, err = client.communicate(timeout=60)
    assert client.returncode in (0, 3, 4), err
    assert "Traceback" not in err
    same_as_undisturbed(walker, slug, undisturbed)


@pytest.mark.parametrize("case", cases(1, "TERM", "INT"), ids=str)
def test_told_to_stop_anywhere(walker: Walker, undisturbed: dict[str, Any], case: Case) -> None:
    """C12: given back with no attempt charged, or at its end already."""
    slug = walker.add()
    code = walker.run(slug, "first", **case.environment)
    assert code in (0, 128 + signal.Signals[f"SIG{case.signal}"])
    dataset = walker.site.dataset(slug)
    assert dataset["state"] in ("unprocessed", "completed")
    assert dataset["attempt"] == 0
    finish(walker, slug, "second")
    same_as_undisturbed(walker, slug, undisturbed)


@pytest.mark.parametrize("point", sample(sorted(SERVER_POINTS), 1))
def test_a_server_killed_anywhere(walker: Walker, undisturbed: dict[str, Any], point: Point) -> None:
    """C1, C11: the client asks again until the server is back."""
    server = walker.site.server
    for nth in range(1, 7 if "status" in point and whole() else 2):
        slug = walker.add()
        server.stop()
        server.environment = {VARIABLE: f"{point}:{nth}"}
        server.start()
        client = walker.start(slug, "first")
        assert server.process is not None
        server.process.wait(60)
        server.environment = {}
        server.start()
        _, err = client.communicate(timeout=120)
        assert client.returncode == 0, err
        assert walker.site.statuses(slug, effective=False) == GOOD_RUN
        same_as_undisturbed(walker, slug, undisturbed)


def test_every_point_is_walked() -> None:
    assert set(CLIENT_POINTS) | SERVER_POINTS | OF_A_STOP == set(Point)
