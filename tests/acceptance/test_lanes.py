"""A loop's lanes: what is fetched while another computes, how many compute at once, and what Ctrl-C does to each."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import pytest

from tests.support.site import GOOD_RUN, Site, interrupt_twice, until

NEXT_IS_HERE = """#!/bin/bash
# Each of the first three that compute waits for one more that is fetched meanwhile.
echo >> "{folder}/begun"
begun=$(wc -l < "{folder}/begun")
fetched() { ls -d ../d*/.crunch/setup_md5_checksums.json | wc -l; }
if [ "$begun" -le 3 ]; then
    for _ in $(seq 200); do [ "$(fetched)" -gt "$begun" ] && break; sleep 0.1; done
    [ "$(fetched)" -gt "$begun" ] || { echo "the next one was not fetched meanwhile" >&2; exit 1; }
fi
cat input.txt > output.txt
"""

MEET = """#!/bin/bash
# Two that compute at once meet; one alone waits in vain.
touch "{folder}/$(cat input.txt)"
for _ in $(seq 200); do [ "$(ls "{folder}" | wc -l)" -ge 2 ] && break; sleep 0.1; done
[ "$(ls "{folder}" | wc -l)" -ge 2 ]
"""

WAIT = """#!/bin/bash
touch "{folder}/$(head -c 9 input.txt)"
while [ ! -e "{folder}/go" ]; do sleep 0.1; done
"""


def add(site: Site, name: str, workflow: str, count: int, **values: Any) -> list[str]:
    project = site.add_project(name, workflow, **values)
    return [site.add_dataset(project, f"d{number}", {"input.txt": b"%d" % number}) for number in range(1, count + 1)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "meeting"
    made.mkdir()
    return made


def test_the_next_dataset_is_fetched_while_one_computes(site: Site, folder: Path) -> None:
    slugs = add(site, "Ahead", NEXT_IS_HERE.replace("{folder}", str(folder)), 6)
    outcome = json.loads(site.crunch("loop", "--json").stdout)
    assert {run["result"] for run in outcome["runs"]} == {"completed"}
    assert sorted(run["dataset"] for run in outcome["runs"]) == slugs
    for number, slug in enumerate(slugs, 1):
        assert site.statuses(slug, effective=False) == GOOD_RUN
        assert site.files(slug)["output.txt"] == b"%d" % number


def test_as_many_compute_at_once_as_there_are_workers(site: Site, folder: Path) -> None:
    slugs = add(site, "Meeting", MEET.format(folder=folder), 2)
    done = site.crunch("loop", "--workers", "2", "--prefetch", "0")
    assert "2 completed" in done.stderr
    assert [site.dataset(slug)["state"] for slug in slugs] == ["completed"] * 2


def test_the_first_ctrl_c_lets_what_computes_end_and_gives_the_rest_back(site: Site, folder: Path) -> None:
    slugs = add(site, "Gently", WAIT.format(folder=folder), 3)

    def states() -> list[str]:
        return sorted(site.dataset(slug)["state"] for slug in slugs)

    loop = site.start("loop")
    until(lambda: any(folder.iterdir()), what="one that computes")
    until(lambda: states() == ["running", "running", "unprocessed"], what="one that is fetched")
    loop.send_signal(signal.SIGINT)
    until(lambda: states() == ["running", "unprocessed", "unprocessed"], what="what waits to be given back")
    (folder / "go").touch()
    _, err = loop.communicate(timeout=120)
    assert loop.returncode == 128 + signal.SIGINT, err
    assert "Ctrl-C again stops now" in err
    assert "Traceback" not in err
    assert states() == ["completed", "unprocessed", "unprocessed"]
    assert [site.dataset(slug)["attempt"] for slug in slugs] == [0, 0, 0]
    site.crunch("loop")
    assert states() == ["completed"] * 3


def test_what_is_fetched_waits_for_room_and_what_never_fits_is_left_to_others(site: Site, folder: Path) -> None:
    project = site.add_project("Room", WAIT.format(folder=folder))
    sizes = [*[800_000] * 5, 3_000_000]
    slugs = [site.add_dataset(project, f"d{size}-{n}", {"input.txt": b"1" * size}) for n, size in enumerate(sizes)]
    loop = site.start("loop", "--prefetch", "2", "--cleanup", "--max-disk", "2MB")
    said = loop.stderr
    assert said is not None
    until(lambda: "waits until others leave room for its 800000 bytes" in said.readline(), what="one that waits")
    assert len(list(site.directory.glob("room/*/input.txt"))) <= 2
    (folder / "go").touch()
    _, err = loop.communicate(timeout=120)
    assert loop.returncode == 1, err
    assert [site.dataset(slug)["state"] for slug in slugs] == ["completed"] * 5 + ["unprocessed"]
    assert "no room" in err and "3000000 bytes, and" in err and "left of --max-disk. See by `crunch clean`" in err


def test_one_that_is_cancelled_or_reset_while_it_waits_for_its_turn_ends_alone(site: Site, folder: Path) -> None:
    slugs = add(site, "Waits", WAIT.format(folder=folder), 6, lease_seconds=3)
    loop = site.start("loop", "--json", "--prefetch", "2")

    def fetched() -> list[str]:
        return [slug for slug in slugs if site.statuses(slug) == [(1, 1), (1, 2)]]

    until(lambda: len(fetched()) == 2, what="two that wait for their turn")
    cancelled, reset = fetched()
    site.client.cancel(site.dataset_claim(cancelled))
    until(lambda: site.dataset(cancelled)["state"] == "failed", what="the cancelled one's end")
    assert "alice" in site.notes(cancelled)[-1]
    site.client.reset(reset)
    (folder / "go").touch()
    out, err = loop.communicate(timeout=120)
    ends = {(run["dataset"], run["result"]) for run in json.loads(out)["runs"]}
    assert {(cancelled, "cancelled"), (reset, "lease lost")} <= ends, err
    others = [slug for slug in slugs if slug != cancelled]
    assert [site.dataset(slug)["state"] for slug in others] == ["completed"] * 5


def test_the_second_ctrl_c_gives_everything_back(site: Site, folder: Path) -> None:
    slugs = add(site, "At once", WAIT.format(folder=folder), 3)
    loop = site.start("loop", "--workers", "2")
    until(lambda: (folder / "1").exists() and (folder / "2").exists(), what="two that compute")
    interrupt_twice(loop)
    _, err = loop.communicate(timeout=30)
    assert loop.returncode == 128 + signal.SIGINT, err
    assert "Traceback" not in err
    assert [(row["state"], row["attempt"]) for row in map(site.dataset, slugs)] == [("unprocessed", 0)] * 3


def test_a_loop_that_waits_takes_what_another_gives_back(site: Site, folder: Path) -> None:
    (slug,) = add(site, "Given back", WAIT.format(folder=folder), 1)
    other = site.start("next", "--directory", str(folder.parent / "other"))
    until((folder / "1").exists, what="the other's start")
    loop = site.start("loop", "--wait", "--json")
    other.send_signal(signal.SIGTERM)
    other.communicate(timeout=30)
    (folder / "go").touch()
    out, err = loop.communicate(timeout=120)
    assert [run["result"] for run in json.loads(out)["runs"]] == ["completed"], err
    assert site.dataset(slug)["state"] == "completed"
