"""`crunch up`, `status` and `down` with real servers: what runs is found again, and nothing else is touched."""

from __future__ import annotations

import functools
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from crunch_tasks.files.opening import open_storage
from crunch_tasks.link.client import CrunchClient
from crunch_tasks.storage_settings import load_storage_settings
from deployments.local import bare_environment, free_port
from deployments.stack.process import of_stack
from deployments.upkeep import SILENT, UNBORN
from tests.support.depth import long
from tests.support.site import CRUNCH, until


@dataclass
class Local:
    """A stack in a data folder, as a user's shell would call it."""

    data: Path
    ports: tuple[str, ...]

    @functools.cached_property
    def client_env(self) -> dict[str, str]:
        """What a shell has that sourced client.env."""
        printed = subprocess.run(
            ["bash", "-c", f"set -a; source {self.data}/client.env; env -0"], env={}, capture_output=True, check=True
        )
        return dict(word.split("=", 1) for word in printed.stdout.decode().split("\0") if word)

    def start(self, *words: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [CRUNCH, *words, "--data", str(self.data)],
            env=bare_environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def crunch(self, *words: str, code: int = 0) -> str:
        process = self.start(*words)
        out, err = process.communicate(timeout=180)
        assert process.returncode == code, f"{words}: {process.returncode}\n{out}\n{err}"
        assert "Traceback" not in err
        return out if code != 1 or out else err

    def status(self, code: int = 0) -> dict[str, Any]:
        return dict(json.loads(self.crunch("status", "--json", code=code)))

    def pids(self, code: int = 0) -> dict[str, int]:
        return {service["name"]: service["pid"] for service in self.status(code)["services"]}

    def add_dataset(self, workflow: str) -> str:
        environment = self.client_env
        with CrunchClient(environment["CRUNCH_URL"], environment["CRUNCH_TOKEN"]) as client:
            project = client.create_project(name="P", workflow=workflow)["slug"]
            made = client.create_dataset(parent=project, name="one")
        storage = open_storage(load_storage_settings(environment["CRUNCH_STORAGE_SETTINGS"]))
        storage.write(f"{made['base_file_path']}/a.txt", b"of the stack")
        return str(made["slug"])

    def dataset(self, slug: str) -> dict[str, Any]:
        environment = self.client_env
        with CrunchClient(environment["CRUNCH_URL"], environment["CRUNCH_TOKEN"]) as client:
            return dict(client.get_dataset(slug))

    def flow_runs(self) -> list[str]:
        """The states of all."""
        api = self.client_env["PREFECT_API_URL"]
        found = httpx.post(f"{api}/flow_runs/filter", json={}, timeout=60).raise_for_status().json()
        return [run["state_type"] for run in found]

    def run_deployment(self, *words: str) -> None:
        command = [str(Path(sys.executable).with_name("prefect")), "--no-prompt", "deployment", "run", *words]
        subprocess.run(command, env=bare_environment() | self.client_env, capture_output=True, check=True, timeout=120)


@pytest.fixture
def local() -> Iterator[Local]:
    # Not below pytest's folders: PostgreSQL's own system user could not enter them, and its socket's path is short.
    data = Path(tempfile.mkdtemp(prefix="crunch-up-"))
    data.chmod(0o711)
    stack = Local(data, ("--port", str(free_port()), "--prefect-port", str(free_port())))
    try:
        yield stack
    finally:
        stack.start("down").communicate(timeout=120)
        left = of_stack(data / "prefect")
        for process in left:
            process.kill()
        shutil.rmtree(data, ignore_errors=True)
        assert left == []


def test_up_twice_a_run_by_the_worker_a_killed_server_and_down(local: Local) -> None:
    both = [local.start("up", *local.ports) for _ in range(2)]
    said = [process.communicate(timeout=120)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0]
    # One made the stack; the other waited and found all of it running.
    assert sorted("shown only now" in words for words in said) == [False, True]
    assert sorted(words.count("runs already") for words in said) == [0, 3]

    found = local.status()
    assert [service["name"] for service in found["services"]] == ["Prefect server", "Crunch server", "Prefect worker"]
    assert all(service["running"] and not service["problem"] for service in found["services"])
    pids = {service["name"]: service["pid"] for service in found["services"]}
    environment = local.client_env
    secret = environment["CRUNCH_TOKEN"]
    assert environment["DO_NOT_TRACK"] == "1"
    processes = of_stack(local.data / "prefect")
    assert set(pids.values()) <= {process.pid for process in processes}
    assert not any(secret in word for process in processes for word in process.cmdline())
    inside = {path.name: path.stat().st_mode & 0o77 for path in local.data.iterdir()}
    assert {"client.env", "server.env", "stack.json", "storage.toml", "server"} <= set(inside)
    assert {name: mode for name, mode in inside.items() if mode} == {}

    slug = local.add_dataset("#!/bin/bash\ncat a.txt > b.txt\n")
    local.run_deployment("crunch/next", "-p", "project=p")
    until(lambda: local.dataset(slug)["state"] == "completed", what="the run by the worker")
    assert next((local.data / "files").rglob("b.txt")).read_bytes() == b"of the stack"
    assert all(secret not in log.read_text() for log in (local.data / "logs").iterdir())
    check_prefect(environment["PREFECT_API_URL"])

    os.kill(pids["Crunch server"], signal.SIGKILL)
    until(lambda: not psutil.pid_exists(pids["Crunch server"]), what="the end of the server")
    found = local.status(code=1)
    assert [service["running"] for service in found["services"]] == [True, False, True]
    assert found["datasets"] is None
    said_again = local.crunch("up")
    assert "Crunch server   started" in said_again and said_again.count("runs already") == 2
    found = local.status()
    assert found["datasets"]["completed"] == 1
    again = {service["name"]: service["pid"] for service in found["services"]}
    assert again["Crunch server"] != pids["Crunch server"]
    assert again | {"Crunch server": 0} == pids | {"Crunch server": 0}

    assert local.crunch("down") == "Stopped: Prefect worker, Crunch server, Prefect server.\n"
    assert of_stack(local.data / "prefect") == []
    assert "Nothing of" in local.crunch("down")


def check_prefect(api: str) -> None:
    found = httpx.post(f"{api}/deployments/filter", json={}).json()

    def told(one: dict[str, Any]) -> tuple[Any, ...]:
        schedules = [(part["schedule"]["interval"], part["active"]) for part in one["schedules"]]
        return one["name"], one["tags"], (one["global_concurrency_limit"] or {}).get("limit"), schedules

    assert sorted(told(one) for one in found) == [
        ("loop", ["crunch"], 4, []),
        ("next", ["crunch"], 4, [(300, False)]),
        ("run", ["crunch"], None, []),
    ]
    # Those that mark what a killed worker leaves.
    found = httpx.post(f"{api}/automations/filter", json={}).json()
    assert sorted((one["name"], one["enabled"]) for one in found) == sorted((name, True) for name in (SILENT, UNBORN))


def test_when_one_part_cannot_start_none_is_left_on(local: Local) -> None:
    (local.data / "server").mkdir()
    (local.data / "server" / "crunch.sqlite3").write_bytes(b"no database at all" * 1000)
    assert "not a database" in local.crunch("up", *local.ports, code=1)
    assert of_stack(local.data / "prefect") == []
    assert list((local.data / "run").glob("*.json")) == []
    # What it was asked for decides nothing: the next one may be asked for something else.
    assert local.status(code=1)["services"] == []


@long
def test_a_first_up_that_fails_late_decides_nothing_and_the_next_one_shows_the_password(local: Local) -> None:
    local.data.joinpath("prefect").mkdir()
    broken = local.data / "prefect" / "prefect.db"
    broken.write_bytes(b"no database at all" * 1000)
    assert "The Prefect server does not start" in local.crunch("up", *local.ports, code=1)
    assert of_stack(local.data / "prefect") == []
    broken.unlink()

    storage = local.data / "other.toml"
    storage.write_text(f"MEDIA_ROOT = '{local.data}'\n")
    said = local.crunch("up", *local.ports, "--no-worker", "--storage-settings", str(storage))
    [password] = re.findall(r"as admin with the password (\S+), which is shown only now", said)
    address = local.client_env["CRUNCH_URL"]
    with httpx.Client(base_url=address, follow_redirects=True) as browser:
        browser.get("/admin/login/")
        form = {"username": "admin", "password": password, "csrfmiddlewaretoken": browser.cookies["csrftoken"]}
        browser.post("/admin/login/?next=/admin/", data=form)
        assert "sessionid" in browser.cookies
    assert "shown only now" not in local.crunch("up")


@long
def test_a_first_up_that_was_killed_is_shown_and_gone_on_with(local: Local) -> None:
    killed = local.start("up", *local.ports)
    until((local.data / "run" / "crunch.json").exists, what="two services")
    killed.kill()
    killed.communicate()
    assert "`crunch up` goes on from there" in local.crunch("status", code=1)
    pids = local.pids(code=1)
    assert [name for name, pid in pids.items() if pid] == ["Prefect server", "Crunch server"]

    said = local.crunch("up")
    assert "shown only now" in said and said.count("runs already") == 2
    found = local.status()
    assert (found["unfinished"], found["exit_code"]) == (False, 0)
    assert pids | {"Prefect worker": local.pids()["Prefect worker"]} == local.pids()
    check_prefect(local.client_env["PREFECT_API_URL"])


@long
def test_a_running_dataset_is_given_back_by_down_and_a_killed_prefect_server_leaves_no_port_taken(
    local: Local,
) -> None:
    local.crunch("up", *local.ports)
    slug = local.add_dataset("#!/bin/bash\ncat a.txt > b.txt\nwhile [ ! -e go ]; do sleep 0.1; done\n")
    os.kill(local.pids()["Prefect server"], signal.SIGKILL)
    until(lambda: not local.pids(code=1)["Prefect server"], what="the end of the server")
    local.crunch("up")
    local.run_deployment("crunch/run", "-p", f"slug={slug}")
    until(lambda: list((local.data / "work").rglob("b.txt")), what="the workflow's start")

    assert "Prefect worker" in local.crunch("down")
    assert of_stack(local.data / "prefect") == []
    local.crunch("up", "--no-worker")
    dataset = local.dataset(slug)
    assert (dataset["state"], dataset["attempt"]) == ("unprocessed", 0)
    assert list(local.pids()) == ["Prefect server", "Crunch server"]


@long
def test_a_run_that_the_worker_took_and_did_not_begin_goes_to_the_next_worker(local: Local) -> None:
    local.crunch("up", *local.ports)
    slug = local.add_dataset("#!/bin/bash\ncat a.txt > b.txt\n")
    local.run_deployment("crunch/run", "-p", f"slug={slug}")
    until(lambda: local.flow_runs() == ["PENDING"], what="the worker's hand on the run")
    local.crunch("down")
    local.crunch("up", "--no-worker")
    assert local.flow_runs() == ["SCHEDULED"]

    local.crunch("up", "--worker")
    until(lambda: local.flow_runs() == ["PENDING"], what="the next worker's hand on the run")
    os.kill(local.pids()["Prefect worker"], signal.SIGKILL)
    until(lambda: not local.pids(code=1)["Prefect worker"], what="the end of the worker")
    local.crunch("up")
    # That of the deployment, and the dataset's own below it.
    until(lambda: local.flow_runs() == ["COMPLETED"] * 2, what="the run")
    assert (local.dataset(slug)["state"], local.dataset(slug)["attempt"]) == ("completed", 0)


@long
def test_all_in_one_postgresql(local: Local) -> None:
    local.crunch("up", *local.ports, "--postgres")
    slug = local.add_dataset("#!/bin/bash\ncat a.txt > b.txt\n")
    local.run_deployment("crunch/next", "-p", "project=p")
    until(lambda: local.dataset(slug)["state"] == "completed", what="the run by the worker")
    assert list(local.data.rglob("*.sqlite3")) == list(local.data.rglob("prefect.db")) == []

    os.kill(local.pids()["PostgreSQL"], signal.SIGKILL)
    until(lambda: not local.pids(code=1)["PostgreSQL"], what="the end of the database")
    assert local.crunch("up").count("runs already") == 3
    assert local.dataset(slug)["state"] == "completed"
    assert local.crunch("down") == "Stopped: Prefect worker, Crunch server, Prefect server, PostgreSQL.\n"
    local.crunch("up", "--no-worker")
    assert local.dataset(slug)["state"] == "completed"
