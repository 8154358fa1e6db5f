"""A Prefect server set up for many machines: a worker that knows nothing of the site takes it from Prefect's blocks."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest
from prefect.settings import PREFECT_API_URL, temporary_settings

from deployments.__main__ import app
from deployments.local import bare_environment
from flows.cli import end_well
from tests.acceptance.test_prefect_worker import PREFECT, everything_in_prefect
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

    def __call__(self, *words: str, code: int = 0) -> str:
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


def ended(site: Site, flow_run: str) -> bool:
    return bool(httpx.get(f"{site.prefect_api}/flow_runs/{flow_run}").json()["end_time"])


def test_a_worker_elsewhere_takes_server_token_and_storage_from_blocks(site: Site, deployments: Deployments) -> None:
    project = site.add_project("Elsewhere", "#!/bin/bash\nenv > env.txt\n")
    slug = site.add_dataset(project, "one", {"input.txt": b"x"})
    with foreign_worker(site, POOL):
        made = httpx.post(
            f"{site.prefect_api}/deployments/{of_pool(site, f'run-{POOL}')['id']}/create_flow_run",
            json={"parameters": {"slug": slug}},
        ).json()
        until(lambda: ended(site, made["id"]), what="the run")

    assert site.statuses(slug, effective=False) == GOOD_RUN
    token = site.server.tokens["alice"]
    assert token.encode() not in site.files(slug)["env.txt"]
    recorded = everything_in_prefect(site.prefect_api)
    blocks = httpx.post(f"{site.prefect_api}/block_documents/filter", json={}).text
    assert slug in recorded and "crunch-token" in blocks
    assert token not in recorded + blocks
    # What is kept of a run is nothing that another machine would need: no result.
    runs = httpx.post(f"{site.prefect_api}/flow_runs/filter", json={"flow_runs": {"tags": {"all_": [project]}}}).json()
    assert [(run["state"]["data"] or {}).get("storage_key", "") for run in runs] == [""]
    assert [run["tags"] for run in httpx.post(f"{site.prefect_api}/flow_runs/filter", json={}).json()].count([]) == 0


def test_set_up_twice_keeps_what_is_there_and_old_runs_are_deleted(site: Site, deployments: Deployments) -> None:
    name = f"next-{POOL}-birds"
    words = ("deploy", "--pool", POOL, "--project", "birds")
    assert f"crunch/{name} " in deployments(*words, "--every", "1h", "--limit", "3")
    first = of_pool(site, name)
    deployments(*words)
    again = of_pool(site, name)
    assert again["id"] == first["id"]
    assert again["parameters"] == {"project": "birds"}
    assert [(one["schedule"]["interval"], one["active"]) for one in again["schedules"]] == [(3600, True)]
    deployments(*words, "--cron", "0 22 * * *")
    assert [one["schedule"].get("cron") for one in of_pool(site, name)["schedules"]] == ["0 22 * * *"]

    deployments("pools", "--name", POOL, "--limit", "5")
    pool = httpx.get(f"{site.prefect_api}/work_pools/{POOL}").json()
    assert (pool["type"], pool["concurrency_limit"]) == ("process", 5)
    deployments("pools", "--name", "boxes", "--type", "docker", "--image", "lab/crunch:2")
    boxes = httpx.get(f"{site.prefect_api}/work_pools/boxes").json()
    assert boxes["base_job_template"]["variables"]["properties"]["image"]["default"] == "lab/crunch:2"

    for words, said in (
        (("deploy", "--pool", "nowhere"), "There is no work pool nowhere."),
        (("deploy", "--every", "often"), "Write it like 30s, 5m, 1h or 1d."),
        (("deploy", "--cron", "often"), "five fields"),
        (("pools", "--name", POOL, "--type", "docker"), "of the type process"),
        (("pools", "--name", "new", "--type", "slurm"), "Install crunch[slurm] first."),
    ):
        assert said in deployments(*words, code=2)

    for _ in range(2):
        deployments("automations")
    found = httpx.post(f"{site.prefect_api}/automations/filter", json={}).json()
    assert [(one["enabled"], one["trigger"]["posture"]) for one in found] == [(True, "Proactive")]

    api = f"{site.prefect_api}/flow_runs"
    deployment = of_pool(site, f"run-{POOL}")["id"]
    made = [
        httpx.post(f"{site.prefect_api}/deployments/{deployment}/create_flow_run", json={"parameters": {"slug": "a:b"}})
        for _ in range(2)
    ]
    ended, waiting = (answer.json()["id"] for answer in made)
    httpx.post(f"{api}/{ended}/set_state", json={"state": {"type": "CANCELLED"}, "force": True}).raise_for_status()
    assert "0 flow runs" in deployments("retention", "--days", "1")
    deployments("retention", "--days", "0")
    until(lambda: httpx.get(f"{api}/{ended}").status_code == 404, what="the end of the old flow run")
    assert httpx.get(f"{api}/{waiting}").json()["state"]["type"] == "SCHEDULED"
    httpx.delete(f"{api}/{waiting}")
