"""A batch system's notice (SIGTERM): finished work is saved, the dataset given back, and the process gone in time."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from urllib.parse import urlsplit

import psutil
import pytest

from crunch_tasks.crash import VARIABLE, Point
from crunch_tasks.stopping import STOP_S
from tests.support.depth import long, sample, whole
from tests.support.site import GOOD_RUN, Site, until

# Two chains, so that one rule is finished and another one half done when the notice comes; a folder as an output too.
SNAKEFILE = r"""
rule all:
    input: "last.txt"

rule first:
    input: "input.txt"
    output: "first.txt", directory("parts")
    log: "logs/first.log"
    shell:
        "echo first >> {count}; mkdir parts; echo said > {{log}}; "
        "for to in parts/a 'parts/b c' first.txt undeclared.idx; do cp {{input}} \"$to\"; done"

rule second:
    input: "first.txt"
    output: "second.txt"
    shell:
        "echo half > junk.$$; mv junk.$$ junk; echo half > {{output}}; echo second >> {count}; "
        "until [ -e {flag} ]; do sleep 0.1; done; cp {{input}} {{output}}; rm junk"

rule last:
    input: "second.txt"
    output: "last.txt"
    shell: "echo last >> {count}; cat second.txt parts/* > last.txt"
"""

INPUTS = {"input.txt": b"precious\n", "other": b"x" * 9_000_000}
RESULTS = {
    "first.txt": b"precious\n",
    "second.txt": b"precious\n",
    "parts/a": b"precious\n",
    "parts/b c": b"precious\n",
    "last.txt": b"precious\n" * 3,
    # What no rule declares is as much a result.
    "undeclared.idx": b"precious\n",
    "logs/first.log": b"said\n",
    # Snakemake's own, in each folder that is an output.
    "parts/.snakemake_timestamp": b"",
}
FINISHED = RESULTS.keys() - {"second.txt", "last.txt"}


@pytest.fixture
def count(tmp_path: Path) -> Path:
    return tmp_path / "count"


@pytest.fixture
def flag(tmp_path: Path) -> Path:
    return tmp_path / "flag"


@pytest.fixture
def slug(site: Site, count: Path, flag: Path) -> str:
    workflow = SNAKEFILE.format(count=count, flag=flag)
    project = site.add_project("P", workflow, workflow_type="snakemake")
    return site.add_dataset(project, "one", INPUTS)


def stopped_in_second(site: Site, count: Path, *words: str) -> str:
    """A client that got the notice while the rule `second` ran; what it said."""
    before = count.read_text().count("second") if count.exists() else 0
    client = site.start("next", *words)
    until(lambda: count.exists() and count.read_text().count("second") > before, what="the second rule")
    client.send_signal(signal.SIGTERM)
    _, err = client.communicate(timeout=STOP_S + 1)
    assert client.returncode == 128 + signal.SIGTERM, err
    assert "Traceback" not in err
    return err


@pytest.mark.parametrize("storage_settings", sample(["folder", "s3"], 1), indirect=True)
def test_a_stopped_snakemake_goes_on_elsewhere_from_what_it_had_finished(
    site: Site, slug: str, count: Path, flag: Path, tmp_path: Path
) -> None:
    err = stopped_in_second(site, count)
    assert "p:one was given back. 6 finished files are saved" in err
    assert site.dataset(slug)["state"] == "unprocessed" and site.dataset(slug)["attempt"] == 0
    assert site.files(slug) == INPUTS
    assert set(site.read_json(slug, ".crunch/attempts/1/saved.json")["files"]) == FINISHED

    # Stopped again on a second machine, where nothing new was finished: what the first one saved still counts.
    assert "6 finished files are saved" in stopped_in_second(site, count, "--directory", str(tmp_path / "second"))

    flag.touch()
    outcome = json.loads(site.crunch("next", "--json", "--directory", str(tmp_path / "third")).stdout)
    assert outcome["result"] == "completed"
    assert count.read_text().splitlines() == ["first", "second", "second", "second", "last"]
    assert site.files(slug) == INPUTS | RESULTS
    assert site.statuses(slug)[-6:] == GOOD_RUN
    prefix = f"{site.dataset(slug)['base_file_path']}/.crunch/attempts/"
    assert [info.key for info in site.storage.list_objects(prefix)] == []


def test_a_killed_snakemake_goes_on_in_the_same_folder_and_publishes_nothing_half(
    site: Site, slug: str, count: Path, flag: Path
) -> None:
    client = site.start("next")
    until(lambda: count.exists() and "second" in count.read_text(), what="the second rule")
    client.kill()
    client.communicate()

    flag.touch()
    site.crunch("next")
    assert count.read_text().splitlines() == ["first", "second", "second", "last"]
    assert site.files(slug) == INPUTS | RESULTS


@long
def test_what_cannot_go_on_from_earlier_work_starts_over_by_itself(
    site: Site, count: Path, flag: Path, tmp_path: Path
) -> None:
    """A rule that moved away what an earlier one left undeclared cannot be run again on top of that."""
    moves = SNAKEFILE.replace("echo half > junk.$$; mv", "mv undeclared.idx moved.idx; echo half > junk.$$; mv")
    workflow = moves.format(count=count, flag=flag)
    slug = site.add_dataset(site.add_project("P", workflow, workflow_type="snakemake"), "one", INPUTS)
    stopped_in_second(site, count)

    flag.touch()
    site.crunch("next", "--directory", str(tmp_path / "elsewhere"))
    assert count.read_text().splitlines() == ["first", "second", "first", "second", "last"]
    moved = {path if path != "undeclared.idx" else "moved.idx": data for path, data in RESULTS.items()}
    assert site.files(slug) == INPUTS | moved
    assert site.statuses(slug)[-6:] == GOOD_RUN


@long
def test_a_stopped_snakemake_whose_saved_files_are_gone_starts_anew(
    site: Site, slug: str, count: Path, flag: Path, tmp_path: Path
) -> None:
    stopped_in_second(site, count)
    site.storage.delete(f"{site.dataset(slug)['base_file_path']}/.crunch/attempts/1/saved/parts/a")

    flag.touch()
    site.crunch("next", "--directory", str(tmp_path / "elsewhere"))
    assert count.read_text().splitlines() == ["first", "second", "first", "second", "last"]
    assert site.files(slug) == INPUTS | RESULTS


@long
@pytest.mark.parametrize(
    "point", sample([Point.WORK_SENT, Point.WORK_SAVED, Point.RELEASED, Point.SAVED_WORK_FETCHED], 1)
)
def test_killed_while_finished_work_is_saved_or_fetched(
    site: Site, slug: str, count: Path, flag: Path, tmp_path: Path, point: Point
) -> None:
    """The next one elsewhere takes what was saved, or none of it; in both cases nothing is wrong."""
    crash = {VARIABLE: f"{point}:1"}
    if point is Point.SAVED_WORK_FETCHED:
        stopped_in_second(site, count)
        flag.touch()
        died = site.crunch("next", "--directory", str(tmp_path / "second"), code=None, **crash)
        assert died.returncode == -signal.SIGKILL
    else:
        client = site.start("next", **crash)
        until(lambda: count.exists() and "second" in count.read_text(), what="the second rule")
        client.send_signal(signal.SIGTERM)
        client.communicate(timeout=STOP_S + 1)
        assert client.returncode == -signal.SIGKILL
        flag.touch()
    site.expire(slug)
    site.crunch("next", "--directory", str(tmp_path / "third"))
    is_saved = point is not Point.WORK_SENT
    assert count.read_text().splitlines() == ["first", "second", *([] if is_saved else ["first"]), "second", "last"]
    assert site.files(slug) == INPUTS | RESULTS


CHANGES_ITS_INPUT = """
rule all:
    input: "last.txt"

rule first:
    output: "first.txt"
    shell: "echo first >> {count}; echo more >> input.txt; touch first.txt"

rule second:
    input: "first.txt"
    output: "last.txt"
    shell: "echo second >> {count}; until [ -e {flag} ]; do sleep 0.1; done; cp input.txt last.txt"
"""


@long
@pytest.mark.parametrize("where", sample(["in the same folder", "elsewhere"], 1))
def test_a_stopped_snakemake_that_changed_an_input_starts_anew(
    site: Site, count: Path, flag: Path, tmp_path: Path, where: str
) -> None:
    workflow = CHANGES_ITS_INPUT.format(count=count, flag=flag)
    slug = site.add_dataset(site.add_project("P", workflow, workflow_type="snakemake"), "one", INPUTS)
    assert "saved" not in stopped_in_second(site, count)

    flag.touch()
    site.crunch("next", "--directory", str(site.directory if where == "in the same folder" else tmp_path / "other"))
    assert count.read_text().splitlines() == ["first", "second", "first", "second"]
    assert site.files(slug) == INPUTS | {
        "input.txt": b"precious\nmore\n",
        "first.txt": b"",
        "last.txt": b"precious\nmore\n",
    }


DEAF = """#!/bin/bash
trap '' TERM INT
(trap '' TERM INT; setsid sleep 600) &
touch "{flag}"
while :; do sleep 600; done
"""


def listener(address: str) -> psutil.Process:
    """The process behind a loopback address."""
    port = urlsplit(address).port
    found = (c for c in psutil.net_connections("tcp") if c.status == psutil.CONN_LISTEN and c.laddr.port == port)
    return psutil.Process(next(found).pid)


@long
@pytest.mark.parametrize("away", ["the server", *(["nothing", "Prefect"] if whole() else [])])
def test_a_stopped_client_is_gone_in_time_whatever_does_not_answer(
    site: Site, prefect_api: str, flag: Path, away: str
) -> None:
    """Also with a workflow that does not listen."""
    slug = site.add_dataset(site.add_project("P", DEAF.format(flag=flag), lease_seconds=5), "one", {"input.txt": b"x"})
    client = site.start("next")
    until(flag.exists, what="the workflow's start")
    workflow = psutil.Process(client.pid).children(recursive=True)
    hanging = {"the server": [site.server.url], "Prefect": [prefect_api]}.get(away, [])
    for process in map(listener, hanging):
        process.suspend()
    try:
        client.send_signal(signal.SIGTERM)
        _, err = client.communicate(timeout=STOP_S + 1)
    finally:
        client.kill()
        for process in map(listener, hanging):
            process.resume()
    assert "Traceback" not in err
    assert not psutil.wait_procs(workflow, timeout=10)[1]
    if away == "the server":
        assert "p:one could not be given back" in err
        # The next command here says so for it, and no attempt is charged.
        assert "p:one is given back" in site.crunch("sync").stderr
        assert (site.dataset(slug)["state"], site.dataset(slug)["attempt"]) == ("unprocessed", 0)
    else:
        assert "p:one was given back." in err
        assert site.dataset(slug)["state"] == "unprocessed"
