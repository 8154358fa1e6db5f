"""What Prefect shows of runs that did not complete: states that are right, and each reason once, in a sentence."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import httpx

from tests.support.site import Site, until

BEGIN = 'touch "{folder}/begun"\nuntil [ -e "{folder}/go" ]; do sleep 0.1; done\necho made > made.txt\n'
ERROR = 40


def ask(site: Site, what: str, **filters: Any) -> list[dict[str, Any]]:
    return list(httpx.post(f"{site.prefect_api}/{what}/filter", json=filters).raise_for_status().json())


def flow_runs(site: Site, slug: str) -> list[dict[str, Any]]:
    """Of a dataset, the oldest first."""
    return ask(site, "flow_runs", flow_runs={"name": {"any_": [slug]}}, sort="START_TIME_ASC")


def tasks(site: Site, flow_run: str) -> dict[str, str]:
    """The state of each task of a flow run."""
    found = ask(site, "task_runs", task_runs={"flow_run_id": {"any_": [flow_run]}})
    return {row["name"]: row["state_type"] for row in found}


def log(site: Site, flow_run: str) -> list[tuple[int, str]]:
    """Level and message of each line, once the last one has arrived: logs come after the states."""

    def rows() -> list[tuple[int, str]]:
        found = ask(site, "logs", logs={"flow_run_id": {"any_": [flow_run]}}, sort="TIMESTAMP_ASC")
        return [(row["level"], row["message"]) for row in found]

    until(lambda: any("Finished in state" in message for _, message in rows()[-1:]), what="the end of the log")
    return rows()


def test_a_failure_is_told_once_and_without_a_traceback(site: Site) -> None:
    slug = site.add_dataset(site.add_project("Failing", "echo the reason >&2\nexit 7\n"), "one", {"input.txt": b"x"})
    site.crunch("next", code=1)
    (run,) = flow_runs(site, slug)
    assert (run["state_type"], run["state"]["message"]) == ("FAILED", "The script ended with exit code 7.")
    until(lambda: tasks(site, run["id"]) == {"setup": "COMPLETED", "workflow": "FAILED"}, what="the tasks' states")
    told = log(site, run["id"])
    assert sum("the reason" in message for _, message in told) == 1
    assert not [message for _, message in told if "Traceback" in message or "NoneType" in message]


def test_what_is_given_back_is_cancelled_and_no_error(site: Site, tmp_path: Path) -> None:
    project = site.add_project("Given back", BEGIN.format(folder=tmp_path))
    slugs = [site.add_dataset(project, name, {"input.txt": b"x"}) for name in ("one", "two", "three")]
    loop = site.start("loop")
    until(lambda: any((2, 1) in site.statuses(slug) for slug in slugs), what="a workflow")
    computes = next(slug for slug in slugs if (2, 1) in site.statuses(slug))
    waits = [slug for slug in slugs if slug != computes]
    until(lambda: any((1, 2) in site.statuses(slug) for slug in waits), what="another one's files")
    given_back = next(slug for slug in waits if (1, 2) in site.statuses(slug))
    loop.send_signal(signal.SIGINT)
    until(lambda: site.dataset(given_back)["state"] == "unprocessed", what="its return")
    (tmp_path / "go").touch()
    _, err = loop.communicate(timeout=120)
    assert loop.returncode == 128 + signal.SIGINT, err
    for slug, state in ((computes, "COMPLETED"), (given_back, "CANCELLED")):
        (run,) = flow_runs(site, slug)
        assert run["state_type"] == state
        assert set(tasks(site, run["id"]).values()) == {"COMPLETED"}
        assert not [message for level, message in log(site, run["id"]) if level >= ERROR]


def test_the_run_of_a_killed_command_does_not_stay_running(site: Site, tmp_path: Path) -> None:
    slug = site.add_dataset(site.add_project("Killed", BEGIN.format(folder=tmp_path)), "one", {"input.txt": b"x"})
    killed = site.start("next")
    until((tmp_path / "begun").exists, what="its workflow")
    killed.kill()
    killed.communicate(timeout=60)
    (tmp_path / "go").touch()
    assert f"Going on with {slug}" in site.crunch("next").stderr
    until(
        lambda: [row["state_type"] for row in flow_runs(site, slug)] == ["CRASHED", "COMPLETED"],
        what="the states of both runs",
    )
