"""What the stack's worker took and did not begin goes to the next worker, and what had begun does not: real Prefect."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from prefect.client.orchestration import get_client
from prefect.settings import PREFECT_API_URL, temporary_settings

from deployments.registering import Wanted, register
from deployments.stack import taken as module
from deployments.stack.folder import StackFolder, StackSettings
from deployments.stack.services import POOL, WORKER, Stack
from deployments.stack.taken import put_back, taken
from tests.support.site import Site


class Runs:
    """Flow runs of crunch/next at the stack's Prefect server, whose worker is this test."""

    def __init__(self, prefect: httpx.Client) -> None:
        self.prefect = prefect
        self.made: list[str] = []

    def call(self, method: str, path: str, body: Any = None) -> Any:
        answer = self.prefect.request(method, path, json=body).raise_for_status()
        return answer.json() if answer.content else None

    def take(self, worker: str = WORKER) -> str:
        """A new one, as it is when the worker has started a process for it."""
        deployment = self.call("GET", "/deployments/name/crunch/next")["id"]
        made = str(self.call("POST", f"/deployments/{deployment}/create_flow_run", {})["id"])
        self.made.append(made)
        self.call("PATCH", f"/flow_runs/{made}/labels", {"prefect.worker.name": worker})
        self.call("PATCH", f"/flow_runs/{made}", {"infrastructure_pid": "123"})
        self.become(made, "PENDING", "Submitting")
        return made

    def become(self, run: str, kind: str, name: str = "") -> None:
        state = {"type": kind, "name": name or kind.capitalize()}
        assert self.call("POST", f"/flow_runs/{run}/set_state", {"state": state})["status"] == "ACCEPT"

    def state(self, run: str) -> str:
        return str(self.call("GET", f"/flow_runs/{run}")["state_type"])


@pytest.fixture
def stack(site: Site, tmp_path: Path) -> Stack:
    with temporary_settings({PREFECT_API_URL: site.prefect_api}), get_client(sync_client=True) as client:
        register(client, Wanted(limit=2))
    port = urlsplit(site.prefect_api).port
    assert port is not None
    return Stack(StackFolder(tmp_path), StackSettings(prefect_port=port))


@pytest.fixture
def runs(stack: Stack) -> Iterator[Runs]:
    with httpx.Client(base_url=f"{stack.prefect_url}/api", timeout=60) as prefect:
        runs = Runs(prefect)
        yield runs
        # Other tests share the Prefect server, and the places.
        for run in runs.made:
            runs.call("POST", f"/flow_runs/{run}/set_state", {"state": {"type": "CANCELLED"}, "force": True})


def test_what_did_not_begin_is_scheduled_again_and_frees_its_place(stack: Stack, runs: Runs) -> None:
    waits, called_crashed = runs.take(), runs.take()
    left = taken(stack)
    assert {waits, called_crashed} <= set(left)
    runs.become(called_crashed, "CRASHED")
    put_back(stack, left)
    for run in (waits, called_crashed):
        found = runs.call("GET", f"/flow_runs/{run}")
        assert (found["state"]["name"], found["infrastructure_pid"], found["end_time"]) == ("Scheduled", None, None)
        assert "ended before it began" in found["state"]["message"]
    # A limit of two: both places are free.
    for run in (waits, called_crashed):
        runs.become(run, "PENDING")


def test_what_began_or_was_cancelled_or_is_of_another_worker_stays_as_it_is(stack: Stack, runs: Runs) -> None:
    runs.call("POST", f"/work_pools/{POOL}/workers/heartbeat", {"name": "another"})
    cancelled, began = runs.take(), runs.take()
    left = taken(stack)
    runs.become(cancelled, "CANCELLED")
    runs.become(began, "RUNNING")
    runs.become(began, "CRASHED")
    elsewhere, running = runs.take("another"), runs.take()
    runs.become(running, "RUNNING")
    assert not {elsewhere, running} & set(taken(stack))
    put_back(stack, left | taken(stack))
    stays = {cancelled: "CANCELLED", began: "CRASHED", elsewhere: "PENDING", running: "RUNNING"}
    assert {run: runs.state(run) for run in stays} == stays


def test_without_an_answer_nothing_is_done(tmp_path: Path) -> None:
    away = Stack(StackFolder(tmp_path), StackSettings(prefect_port=1))
    assert taken(away) == {}
    put_back(away, {"a run": 0})


def test_what_meets_anothers_writing_is_asked_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answers = [httpx.Response(503), httpx.Response(200, json=[]), httpx.Response(503)]
    answers += [httpx.Response(200, json=[{"id": "one", "run_count": 0, "labels": {}}])]
    busy = httpx.MockTransport(lambda _: answers.pop(0))
    monkeypatch.setattr(module, "_prefect", lambda _: httpx.Client(base_url="http://prefect.test/api", transport=busy))
    monkeypatch.setattr(module, "AGAIN_S", 0)
    assert taken(Stack(StackFolder(tmp_path), StackSettings())) == {"one": 0}
