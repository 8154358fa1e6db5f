"""The deployments through a real Prefect server and worker: statuses arrive, nothing secret is in Prefect."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.support.site import GOOD_RUN, Site, until

PREFECT = str(Path(sys.executable).with_name("prefect"))
ROOT = Path(__file__).parents[2]


def prefect(site: Site, *words: str) -> str:
    return call(site, PREFECT, "--no-prompt", *words)


def deployments(site: Site, *words: str, code: int = 0) -> str:
    return call(site, sys.executable, "-m", "deployments", *words, code=code)


def call(site: Site, *words: str, code: int = 0) -> str:
    """What the command says, on either stream, when its exit code is that."""
    done = subprocess.run(
        words,
        env=site.env,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == code, f"{words}\n{done.stdout}{done.stderr}"
    return done.stdout + done.stderr


@pytest.fixture
def worker(site: Site) -> Iterator[subprocess.Popen[bytes]]:
    """The pool, the deployments, and a worker whose environment alone knows server and token."""
    deployments(site, "deploy")
    environment = site.env | {"PREFECT_WORKER_QUERY_SECONDS": "1"}
    process = subprocess.Popen(
        [PREFECT, "worker", "start", "--pool", "crunch"],
        env=environment,
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    yield process
    process.terminate()
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        process.kill()


def everything_in_prefect(api: str) -> str:
    """All flow runs, task runs, deployments, work pools, logs and artifacts, as JSON text."""
    parts = ("flow_runs", "task_runs", "deployments", "work_pools", "logs", "artifacts", "flows", "events")
    filters = [httpx.post(f"{api}/{part}/filter", json={"limit": 200}) for part in parts]
    return "\n".join(answer.text for answer in filters)


def test_next_runs_on_a_worker_and_a_cancel_in_prefect_fails_its_stage(
    site: Site, worker: subprocess.Popen[bytes], tmp_path: Path
) -> None:
    project = site.add_project("Deployed", "#!/bin/bash\ncat input.txt > output.txt\n")
    slug = site.add_dataset(project, "one", {"input.txt": b"by a worker"})

    prefect(site, "deployment", "run", "crunch/next", "-p", f"project={project}", "--watch")

    assert site.statuses(slug, effective=False) == GOOD_RUN
    assert site.files(slug)["output.txt"] == b"by a worker"
    recorded = everything_in_prefect(site.prefect_api)
    assert project in recorded and slug in recorded
    assert site.server.tokens["alice"] not in recorded
    runs = httpx.post(f"{site.prefect_api}/flow_runs/filter", json={"flow_runs": {"name": {"any_": [slug]}}}).json()
    assert sorted(runs[0]["tags"]) == ["crunch", project]

    # Nothing waits any more: that is no failure, and Prefect has a word on it.
    prefect(site, "deployment", "run", "crunch/loop", "-p", f"project={project}", "--watch")
    idle = {"flow_runs": {"name": {"any_": [f"loop {project}"]}}}
    [run] = httpx.post(f"{site.prefect_api}/flow_runs/filter", json=idle).json()
    assert run["state"]["type"] == "COMPLETED"
    assert (run["state"]["name"], run["state"]["message"]) == ("Idle", f"No dataset of {project} waits.")

    flag = tmp_path / "never"
    waits = f"#!/bin/bash\nwhile [ ! -e {flag} ]; do sleep 0.1; done\n"
    hanging = site.add_dataset(site.add_project("Hanging", waits), "one", {"input.txt": b"x"})
    prefect(site, "deployment", "run", "crunch/run", "-p", f"slug={hanging}")
    until(lambda: (2, 1) in site.statuses(hanging), what="the workflow's start")
    [run] = httpx.post(
        f"{site.prefect_api}/flow_runs/filter", json={"flow_runs": {"name": {"any_": [f"run {hanging}"]}}}
    ).json()
    prefect(site, "flow-run", "cancel", run["id"])

    until(lambda: site.dataset(hanging)["state"] == "failed", what="the Fail of the cancelled run")
    assert site.statuses(hanging) == [(1, 1), (1, 2), (2, 1), (2, 3)]
    assert "Cancelled in Prefect" in site.notes(hanging)[-1]
    assert os.environ.get("CRUNCH_TOKEN") is None
