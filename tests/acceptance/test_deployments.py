"""A Prefect server set up for many machines: a worker that knows nothing of the site takes it from Prefect's blocks."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from prefect.client.orchestration import get_client
from prefect.settings import PREFECT_API_URL, temporary_settings

from deployments.__main__ import app
from deployments.local import bare_environment
from deployments.upkeep import mark_zombies
from flows.cli import end_well
from tests.acceptance.test_prefect_worker import PREFECT, everything_in_prefect
from tests.support.depth import long, whole
from tests.support.site import GOOD_RUN, Site, until

POOL = "many"


@contextmanager
def foreign_worker(site: Site, pool: str) -> Iterator[subprocess.Popen[bytes]]:
    """A worker with nothing in its environment but Prefect's address and a directory."""
    environment = bare_environment() | {
        "PREFECT_API_URL": site.prefect_api,
        "PREFECT_WORKER_QUERY_SECONDS": "1",
        "CRUNCH_DIRECTORY": str(site.directory),
    }
    process = subprocess.Popen(
        [PREFECT, "worker", "start", "--pool", pool],
        env=environment,
        cwd=site.directory.parent,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()


class Deployments:
    """`python -m deployments WORDS` in this process, as to start it takes seconds; all that it says."""

    def __init__(self, site: Site, capsys: pytest.CaptureFixture[str]) -> None:
        self.api = site.prefect_api
        self.capsys = capsys

    def __call__(self, *words: str, code: int = 0, **environment: str) -> str:
        for name, value in environment.items():
            os.environ[name] = value  # the fixture puts back what was there
        with temporary_settings({PREFECT_API_URL: self.api}), pytest.raises(SystemExit) as ended:
            end_well(app, list(words), "deployments")
        said = self.capsys.readouterr()
        assert (ended.value.code or 0) == code, said
        return " ".join((said.out + said.err).split())


@pytest.fixture
def deployments(site: Site, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Deployments:
    """With the pool `many` of two runs at once, its deployments, and the blocks."""
    for name in ("CRUNCH_URL", "CRUNCH_TOKEN", "CRUNCH_STORAGE_SETTINGS"):
        monkeypatch.setenv(name, site.env[name])
    call = Deployments(site, capsys)
    call("pools", "--name", POOL, "--limit", "2")
    call("deploy", "--pool", POOL, "--tag", "night")
    call("blocks")
    return call


def of_pool(site: Site, name: str) -> dict[str, Any]:
    return dict(httpx.get(f"{site.prefect_api}/deployments/name/crunch/{name}").raise_for_status().json())


def runs_of(site: Site, tag: str) -> list[dict[str, Any]]:
    """The flow runs of crunch/run-many that were scheduled for the project."""
    query = {"flow_runs": {"tags": {"all_": [tag]}}, "deployments": {"name": {"any_": [f"run-{POOL}"]}}}
    return list(httpx.post(f"{site.prefect_api}/flow_runs/filter", json=query).json())


def artifacts_of(site: Site, flow_run: str) -> int:
    query = {"artifacts": {"flow_run_id": {"any_": [flow_run]}}}
    return int(httpx.post(f"{site.prefect_api}/artifacts/count", json=query).raise_for_status().json())


def test_dispatch_to_a_worker_elsewhere_which_takes_the_settings_from_blocks(
    site: Site, deployments: Deployments, crunch: Any
) -> None:
    project = site.add_project("Elsewhere", "#!/bin/bash\nenv > env.txt\n")
    slugs = [
        site.add_dataset(project, name, {"a.txt": b"x"}) for name in ("one", "two", "three", "four", "five", "six")
    ]
    if not whole():
        for slug in slugs[4:]:
            site.client.hold(slug, locked=True)
        del slugs[4:]

    def dispatch(*words: str) -> dict[str, Any]:
        with temporary_settings({PREFECT_API_URL: site.prefect_api}):
            code, out, err = crunch("dispatch", "--project", project, "--pool", POOL, "--json", *words)
        assert code == 0, err
        return dict(json.loads(out))

    # The pool's limit is two, and what is scheduled is scheduled once.
    assert [dispatch("--once")["runs"] for _ in range(2)] == [2, 0]
    assert sorted(run["parameters"]["slug"] for run in runs_of(site, project)) == sorted(slugs[:2])
    # Somebody else is faster with the first: its run has nothing to do, which is no failure.
    number = site.dataset(slugs[0])["id"]
    for stage, state in GOOD_RUN:
        site.client.post_bare_status({"dataset": number, "stage": stage, "state": state})

    with foreign_worker(site, POOL):
        others = site.start("dispatch", "--project", project, "--pool", POOL)
        assert dispatch()["left"] == []
        assert others.wait(60) == 0

    runs = runs_of(site, project)
    assert sorted(run["parameters"]["slug"] for run in runs) == sorted(slugs)
    assert {run["state"]["type"] for run in runs} == {"COMPLETED"}
    [idle] = [run for run in runs if run["parameters"]["slug"] == slugs[0]]
    assert "completed already" in idle["state"]["message"]
    assert [site.statuses(slug, effective=False) for slug in slugs] == [GOOD_RUN] * len(slugs)

    token = site.server.tokens["alice"]
    assert token.encode() not in site.files(slugs[1])["env.txt"]
    recorded = everything_in_prefect(site.prefect_api)
    blocks = httpx.post(f"{site.prefect_api}/block_documents/filter", json={}).text
    assert slugs[1] in recorded and "crunch-token" in blocks
    assert token not in recorded + blocks
    # What Prefect is given of a run is nothing that another machine would need: no result.
    assert [(run["state"]["data"] or {}).get("storage_key", "") for run in runs] == [""] * len(runs)


@long
def test_dispatch_takes_up_what_a_dead_machine_had_and_leaves_alone_what_no_run_processes(
    site: Site, deployments: Deployments, tmp_path: Path
) -> None:
    go = tmp_path / "go"
    project = site.add_project("Dying", f"#!/bin/bash\nwhile [ ! -e {go} ]; do sleep 0.1; done\n")
    slug = site.add_dataset(project, "one", {"a.txt": b"x"})
    words = ("dispatch", "--project", project, "--pool", POOL, "--json")
    work = site.start(*words)
    with foreign_worker(site, POOL) as worker:
        until(lambda: (2, 1) in site.statuses(slug), what="the workflow's start")
        family = psutil.Process(worker.pid).children(recursive=True)
        for one in [worker, *family]:
            with suppress(psutil.Error):
                one.kill()
        worker.wait()
    go.touch()
    site.expire(slug)
    with foreign_worker(site, POOL):
        out, err = work.communicate(timeout=90)
    assert work.returncode == 0, err
    assert json.loads(out)["runs"] == 2 and "its lease expired" in err
    assert sorted(run["state"]["type"] for run in runs_of(site, project)) == ["COMPLETED", "CRASHED"]
    assert site.dataset(slug)["state"] == "completed"
    named = httpx.post(f"{site.prefect_api}/flow_runs/filter", json={"flow_runs": {"name": {"any_": [slug]}}}).json()
    assert sorted(run["state"]["type"] for run in named) == ["COMPLETED", "CRASHED"]

    # Workers that lack the token: three times, then a word.
    deployments("blocks", **{"CRUNCH_TOKEN": "wrong"})
    site.add_dataset(project, "two", {"a.txt": b"x"})
    with foreign_worker(site, POOL):
        done = site.crunch(*words, code=1)
    assert json.loads(done.stdout)["left"] == [f"{project}:two"]
    assert {run["state"]["type"] for run in runs_of(site, project) if run["parameters"]["slug"].endswith("two")} == {
        "FAILED"
    }


@long
def test_set_up_again_wrong_words_and_old_runs(
    site: Site, deployments: Deployments, crunch: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.add_project("birds", "")
    name = f"next-{POOL}-birds"
    words = ("deploy", "--pool", POOL, "--project", "birds")
    assert f"crunch/{name} " in deployments(*words, "--every", "1h", "--limit", "3", "--tag", "day")
    # That of all projects is as it was.
    shared = of_pool(site, f"run-{POOL}")
    assert (shared["tags"], shared["global_concurrency_limit"]) == (["crunch", "night"], None)
    first = of_pool(site, name)
    deployments(*words)
    again = of_pool(site, name)
    assert again["id"] == first["id"]
    assert again["parameters"] == {"project": "birds"}
    assert (again["tags"], again["global_concurrency_limit"]["limit"]) == (["crunch", "day"], 3)
    assert [(one["schedule"]["interval"], one["active"]) for one in again["schedules"]] == [(3600, True)]
    deployments(*words, "--cron", "0 22 * * *")
    assert [one["schedule"].get("cron") for one in of_pool(site, name)["schedules"]] == ["0 22 * * *"]

    monkeypatch.delenv("CRUNCH_TOKEN")
    # Of the block, as those that run it have it.
    assert "--project nothere: " in deployments("deploy", "--pool", POOL, "--project", "nothere", code=2)
    monkeypatch.setenv("CRUNCH_TOKEN", "wrong")
    assert "a project birds could not be looked up" in deployments(*words)
    monkeypatch.setenv("CRUNCH_TOKEN", site.env["CRUNCH_TOKEN"])

    assert "is there, now with at most 5 runs at once" in deployments("pools", "--name", POOL, "--limit", "5")
    assert "is there, as it was" in deployments("pools", "--name", POOL, "--limit", "5")
    pool = httpx.get(f"{site.prefect_api}/work_pools/{POOL}").json()
    assert (pool["type"], pool["concurrency_limit"]) == ("process", 5)
    boxes = ("pools", "--name", "boxes", "--type", "docker", "--image", "lab/crunch:2")
    assert "(docker): made, the image lab/crunch:2" in deployments(*boxes)
    pool = httpx.get(f"{site.prefect_api}/work_pools/boxes").json()
    assert pool["base_job_template"]["variables"]["properties"]["image"]["default"] == "lab/crunch:2"

    for words, said in (
        (("deploy", "--pool", "nowhere"), "There is no work pool nowhere."),
        (("deploy", "--pool", POOL, "--project", "nothere"), "--project nothere: "),
        (("deploy", "--every", "often"), "Write it like 30s, 5m, 1h or 1d."),
        (("deploy", "--cron", "often"), "five fields"),
        (("pools", "--name", POOL, "--type", "docker"), "of the type process"),
        (("pools", "--name", "new", "--type", "slurm"), "Install crunch[slurm] first."),
    ):
        assert said in deployments(*words, code=2)

    project = site.add_project("P", "")
    for words, said in (
        (("--pool", "nowhere", "--limit", "1"), "There is no deployment crunch/run-nowhere."),
        (("--pool", "boxes"), "There is no deployment crunch/run-boxes."),
    ):
        with temporary_settings({PREFECT_API_URL: site.prefect_api}):
            code, _, err = crunch("dispatch", "--project", project, *words)
        assert (code, said in err) == (2, True), err
    deployments("deploy", "--pool", "boxes")
    with temporary_settings({PREFECT_API_URL: site.prefect_api}):
        code, _, err = crunch("dispatch", "--project", project, "--pool", "boxes")
    assert (code, "0 runs so far" in err) == (0, True), err
    with temporary_settings({PREFECT_API_URL: ""}):
        code, _, err = crunch("dispatch", "--project", project)
    assert (code, "Set PREFECT_API_URL" in err) == (2, True), err

    # Other tests may have made them.
    deployments("automations")
    assert deployments("automations").count("made again as it was") == 2
    found = httpx.post(f"{site.prefect_api}/automations/filter", json={}).json()
    assert [(one["enabled"], one["trigger"]["posture"]) for one in found] == [(True, "Proactive")] * 2

    api = f"{site.prefect_api}/flow_runs"
    deployment = of_pool(site, f"run-{POOL}")["id"]
    made = [
        httpx.post(f"{site.prefect_api}/deployments/{deployment}/create_flow_run", json={"parameters": {"slug": "a:b"}})
        for _ in range(2)
    ]
    ended, waiting = (answer.json()["id"] for answer in made)
    httpx.post(f"{api}/{ended}/set_state", json={"state": {"type": "CANCELLED"}, "force": True}).raise_for_status()
    for run in (ended, waiting):
        artifact = {"key": "changes-1", "type": "markdown", "data": "what it changed", "flow_run_id": run}
        httpx.post(f"{site.prefect_api}/artifacts/", json=artifact).raise_for_status()
    assert artifacts_of(site, ended) == 1
    assert "0 flow runs" in deployments("retention", "--days", "1")
    deployments("retention", "--days", "0")
    until(lambda: httpx.get(f"{api}/{ended}").status_code == 404, what="the end of the old flow run")
    assert httpx.get(f"{api}/{waiting}").json()["state"]["type"] == "SCHEDULED"
    assert (artifacts_of(site, ended), artifacts_of(site, waiting)) == (0, 1)
    httpx.delete(f"{api}/{waiting}")


@long
def test_prefect_marks_a_run_that_a_dead_worker_took_and_never_began(site: Site, deployments: Deployments) -> None:
    api = f"{site.prefect_api}/flow_runs"
    with temporary_settings({PREFECT_API_URL: site.prefect_api}), get_client(sync_client=True) as client:
        mark_zombies(client, timedelta(seconds=10))
    deployment = of_pool(site, f"run-{POOL}")["id"]
    made = httpx.post(
        f"{site.prefect_api}/deployments/{deployment}/create_flow_run", json={"parameters": {"slug": "a:b"}}
    ).json()["id"]
    for name in ("Submitting", "Pending"):
        state = {"state": {"type": "PENDING", "name": name}}
        httpx.post(f"{api}/{made}/set_state", json=state).raise_for_status()
    until(lambda: httpx.get(f"{api}/{made}").json()["state"]["type"] == "CRASHED", what="the mark")
    assert "did not begin" in httpx.get(f"{api}/{made}").json()["state"]["message"]
