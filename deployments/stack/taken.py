"""The flow runs that a worker of the stack took and did not begin: put back, once it is gone, for the next worker.

Prefect leaves them Pending, where no worker takes them and where each holds a place of the work pool, or calls them
crashed.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any

import httpx

from deployments.stack.services import ASK_S, POOL, WORKER, Stack

MOST = 200
"""Prefect tells no more at once, and a worker takes a few only."""
TRIES = 10
AGAIN_S = 0.5


def taken(stack: Stack) -> dict[str, int]:
    """The flow runs of the stack's work pool that are Pending, and how often each began before; none while Prefect does
    not answer. Those of another worker that is there, as somebody may start one, are not among them.
    """
    query = {
        "flow_runs": {"state": {"type": {"any_": ["PENDING"]}}},
        "work_pools": {"name": {"any_": [POOL]}},
        "limit": MOST,
    }
    with contextlib.suppress(httpx.HTTPError), _prefect(stack) as prefect:
        online = {"workers": {"status": {"any_": ["ONLINE"]}}}
        others = {one["name"] for one in _ask(prefect, "POST", f"/work_pools/{POOL}/workers/filter", online)} - {WORKER}
        found = _ask(prefect, "POST", "/flow_runs/filter", query)
        return {one["id"]: one["run_count"] for one in found if one["labels"].get("prefect.worker.name") not in others}
    return {}


def put_back(stack: Stack, left: Mapping[str, int]) -> None:
    """Have the next worker take those of `left`, which were `taken`, that did not begin meanwhile. No process of theirs
    may live. What cannot be put back while Prefect does not answer is left to the next `crunch up`.
    """
    with contextlib.suppress(httpx.HTTPError), _prefect(stack) as prefect:
        for path, begun in ((f"/flow_runs/{flow_run}", begun) for flow_run, begun in left.items()):
            found = _ask(prefect, "GET", path)
            if found["run_count"] != begun or found["state_type"] not in ("PENDING", "CRASHED"):
                continue
            # Whoever cancels it would have the next worker look for a process that is gone.
            _ask(prefect, "PATCH", path, {"infrastructure_pid": None})
            state = {
                "type": "SCHEDULED",
                "message": "The worker that took this run ended before it began.",
                "state_details": {"scheduled_time": datetime.now(UTC).isoformat()},
            }
            # By force: to be called crashed is an end.
            _ask(prefect, "POST", f"{path}/set_state", {"state": state, "force": True})


def _ask(prefect: httpx.Client, method: str, path: str, body: Any = None) -> Any:
    """Prefect's answer. On SQLite it says 503 to what meets another's writing, and its own clients ask again too.

    Raises httpx.HTTPError.
    """
    for _ in range(TRIES):
        answer = prefect.request(method, path, json=body)
        if answer.status_code != HTTPStatus.SERVICE_UNAVAILABLE:
            break
        time.sleep(AGAIN_S)
    answer.raise_for_status()
    return answer.json() if answer.content else None


def _prefect(stack: Stack) -> httpx.Client:
    return httpx.Client(base_url=f"{stack.prefect_url}/api", timeout=ASK_S, trust_env=False)
