"""A server in memory that keeps the promises of the real one's API, for tests; see `crunch_tasks.testing`."""

from __future__ import annotations

import hashlib
import json
import re
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import httpx

from crunch_tasks.contract import (
    LEASE_SECONDS,
    LEAST_SECONDS,
    MAX_ATTEMPTS,
    DatasetState,
    Stage,
    State,
    WorkflowType,
    heartbeat_seconds,
)
from crunch_tasks.link.client import CrunchClient
from crunch_tasks.needs import Resources, parse

Body = dict[str, Any]


@dataclass
class FakeClaim:
    """One claim as the fake server keeps it."""

    id: int
    user: str
    request_id: str
    dataset: Body
    fence: int
    cancelled_by: str = ""
    ended: bool = False


@dataclass
class FakeServer:
    """The server's API over httpx, without a network: `fake.client()` talks to it.

    `tokens` maps tokens to users. `requests` lists method and path of all that arrived. The time of its leases is
    `time.monotonic` plus what `advance` added. `before` and `after` each see a request, before and after it is carried
    out, and may raise an httpx error, as a broken line does, or return an answer of their own.
    """

    tokens: dict[str, str] = field(default_factory=lambda: {"alices-token": "alice", "bobs-token": "bob"})
    lease_seconds: float = LEASE_SECONDS
    max_attempts: int = MAX_ATTEMPTS
    url: str = "http://crunch.test"
    projects: dict[str, Body] = field(default_factory=dict)
    datasets: dict[str, Body] = field(default_factory=dict)
    claims: dict[int, FakeClaim] = field(default_factory=dict)
    statuses: list[Body] = field(default_factory=list)
    log_tails: dict[str, str] = field(default_factory=dict)
    added: list[tuple[str, Body]] = field(default_factory=list)
    requests: list[tuple[str, str]] = field(default_factory=list)
    before: Callable[[httpx.Request], httpx.Response | None] | None = None
    after: Callable[[httpx.Request], httpx.Response | None] | None = None
    _leases: dict[str, tuple[int, float]] = field(default_factory=dict)
    _ahead_s: float = 0.0
    _lock: threading.RLock = field(default_factory=threading.RLock)

    def client(self, token: str = "alices-token", **options: Any) -> CrunchClient:  # noqa: S107 - a fake's token
        return CrunchClient(self.url, token, transport=httpx.MockTransport(self.answer), **options)

    def advance(self, seconds: float) -> None:
        """Let time pass on the server, so that leases expire."""
        self._ahead_s += seconds

    def add_project(self, name: str, workflow: str = "true\n", **values: Any) -> Body:
        project: Body = {
            "id": len(self.projects) + 1,
            "name": name,
            "slug": name,
            "description": "",
            "details": "",
            "workflow": workflow,
            "workflow_type": WorkflowType.SCRIPT.value,
            "lease_seconds": self.lease_seconds,
            "max_attempts": self.max_attempts,
            "workflow_timeout_s": None,
            "needs": "",
            "visibility": "private",
            "paused": False,
            **values,
        }
        self.projects[name] = project
        return project

    def add_dataset(self, parent: str, name: str, **values: Any) -> Body:
        dataset: Body = {
            "id": len(self.datasets) + 1,
            "name": name,
            "slug": f"{parent}:{name}",
            "parent": parent,
            "description": "",
            "details": "",
            "attributes": [],
            "items": [],
            "base_file_path": f"{parent}/{name}",
            "state": DatasetState.UNPROCESSED.value,
            "locked": False,
            "attempt": 0,
            "needs": "",
            "fence": 0,
            **values,
        }
        self.datasets[str(dataset["slug"])] = dataset
        return dataset

    def answer(self, request: httpx.Request) -> httpx.Response:
        """Carry out one request."""
        with self._lock:
            self.requests.append((request.method, request.url.path))
        early = self.before(request) if self.before else None
        if early is not None:
            return early
        with self._lock:
            try:
                answer = self._route(request)
            except _Problem as problem:
                answer = httpx.Response(problem.status, json={"detail": problem.detail, "code": problem.code})
        late = self.after(request) if self.after else None
        return late or answer

    # --- inside ---

    def _route(self, request: httpx.Request) -> httpx.Response:
        user = self.tokens.get(request.headers.get("authorization", "").removeprefix("Token "))
        if user is None:
            raise _Problem(401, "Invalid token.")
        body: Body = json.loads(request.content) if request.content else {}
        path = request.url.path.partition("/api/")[2]
        routes: list[tuple[str, str, Callable[..., httpx.Response]]] = [
            ("POST", r"claims/", self._claim),
            ("POST", r"claims/(\d+)/heartbeat/", self._heartbeat),
            ("POST", r"claims/(\d+)/release/", self._release),
            ("POST", r"claims/(\d+)/cancel/", self._cancel),
            ("POST", r"statuses/", self._status),
            ("GET", r"(projects|datasets)/([^/]+)/", self._get),
            ("POST", r"datasets/([^/]+)/reset/", self._reset),
            ("PATCH", r"datasets/([^/]+)/", self._hold),
            ("GET", r"next/", self._next),
            ("GET", r"projects/([^/]+)/next/", self._next),
            ("GET", r"(projects|datasets|statuses)/", self._list),
            ("POST", r"(projects|datasets|items|attributes/[\w-]+)/", self._create),
        ]
        for method, pattern, action in routes:
            match = re.fullmatch(pattern, path)
            if match and method == request.method:
                return action(user, body, *match.groups(), **dict(request.url.params))
        raise _Problem(404, "Not found.", "not_found")

    def _now(self) -> float:
        return time.monotonic() + self._ahead_s

    def _claim(self, user: str, body: Body) -> httpx.Response:
        for claim in self.claims.values():
            if (claim.user, claim.request_id) == (user, body["request_id"]):
                if claim.ended:
                    raise _Problem(409, "The claim with this request_id has ended.", "claim_ended")
                return httpx.Response(200, json=self._claim_body(claim))
        project = body.get("project", "")
        has = Resources.from_wire(body.get("capabilities") or {})
        named = body.get("dataset", "")
        dataset = self._named(named, body.get("only_waiting", False)) if named else self._candidate(project, has)
        left = body.get("seconds", LEAST_SECONDS)
        if dataset is not None and left < LEAST_SECONDS:
            told = f"{dataset['parent']} may take {LEAST_SECONDS:.0f} s, and {left:.0f} s are left"
            raise _Problem(409, f"Datasets wait, but none fits this machine: {told}.", "unfit")
        if body.get("capabilities") is not None:
            self._refuse_unfit([dataset] if dataset else self._waiting(project), has)
        if dataset is None or (body.get("ahead") and not self._enough_waits(project)):
            return httpx.Response(204)
        if dataset["state"] == DatasetState.RUNNING.value:
            dataset["attempt"] += 1
        elif dataset["state"] != DatasetState.UNPROCESSED.value:
            dataset["attempt"] = 0
        self._end_claim_of(dataset)
        dataset.update(state=DatasetState.RUNNING.value, fence=dataset["fence"] + 1)
        claim = FakeClaim(len(self.claims) + 1, user, body["request_id"], dataset, dataset["fence"])
        self.claims[claim.id] = claim
        return httpx.Response(201, json=self._claim_body(claim))

    def _enough_waits(self, project: str) -> bool:
        states = [row["state"] for row in self.datasets.values() if project in ("", row["parent"])]
        return states.count(DatasetState.UNPROCESSED.value) > states.count(DatasetState.RUNNING.value)

    def _claim_body(self, claim: FakeClaim) -> Body:
        project = self.projects[claim.dataset["parent"]]
        self._leases[claim.dataset["slug"]] = (claim.id, self._now() + project["lease_seconds"])
        return {
            "claim": claim.id,
            "fence": claim.fence,
            "ttl_s": project["lease_seconds"],
            "heartbeat_s": heartbeat_seconds(project["lease_seconds"]),
            "site": self.url,
            "dataset": claim.dataset,
            "project": project,
            "workflow": project["workflow"],
            "workflow_type": project["workflow_type"],
            "workflow_sha256": hashlib.sha256(project["workflow"].encode()).hexdigest(),
        }

    def _named(self, slug: str, only_waiting: bool) -> Body:
        dataset = self.datasets.get(slug)
        if dataset is None:
            raise _Problem(404, f"There is no dataset {slug!r}.", "not_found")
        if dataset["locked"]:
            raise _Problem(409, f"{slug} is held.", "locked")
        if self._lease_is_live(dataset):
            raise _Problem(409, f"{slug} is being processed.", "leased")
        self._give_up(dataset)
        if only_waiting and dataset["state"] in (DatasetState.COMPLETED, DatasetState.FAILED):
            raise _Problem(409, f"{slug} is {dataset['state']} already.", "decided")
        return dataset

    def _give_up(self, dataset: Body) -> bool:
        """Fail it if its lease has expired and that was its last attempt; whether it has failed so."""
        if not self._is_lost(dataset) or dataset["attempt"] + 1 < self.projects[dataset["parent"]]["max_attempts"]:
            return False
        self._end_claim_of(dataset)
        dataset.update(state=DatasetState.FAILED.value, fence=dataset["fence"] + 1)
        return True

    def _candidate(self, project: str, has: Resources = Resources()) -> Body | None:  # noqa: B008 - frozen
        if project and project not in self.projects:
            raise _Problem(404, f"There is no project {project!r}.", "not_found")
        for dataset in self.datasets.values():
            if self.projects[dataset["parent"]]["paused"]:
                continue
            if dataset["locked"] or project not in ("", dataset["parent"]) or self._lacking(dataset, has):
                continue
            if dataset["state"] == DatasetState.UNPROCESSED.value:
                return dataset
            if self._is_lost(dataset) and not self._give_up(dataset):
                return dataset
        return None

    def _lacking(self, dataset: Body, has: Resources) -> str:
        """What the dataset asks for and is not there; empty when all is."""
        lacking = has.lacks(parse(dataset["needs"] or self.projects[dataset["parent"]]["needs"]))
        return str(lacking) if lacking != Resources() else ""

    def _waiting(self, project: str) -> list[Body]:
        return [
            dataset
            for dataset in self.datasets.values()
            if dataset["state"] == DatasetState.UNPROCESSED.value
            and not dataset["locked"]
            and project in ("", dataset["parent"])
        ]

    def _refuse_unfit(self, datasets: list[Body], has: Resources) -> None:
        for dataset in datasets:
            if lacking := self._lacking(dataset, has):
                told = f"{dataset['parent']} asks for {lacking}"
                raise _Problem(409, f"Datasets wait, but none fits this machine: {told}.", "unfit")

    def _lease_is_live(self, dataset: Body) -> bool:
        _, expires = self._leases.get(dataset["slug"], (0, 0.0))
        return dataset["state"] == DatasetState.RUNNING.value and expires > self._now()

    def _is_lost(self, dataset: Body) -> bool:
        return dataset["state"] == DatasetState.RUNNING.value and not self._lease_is_live(dataset)

    def _end_claim_of(self, dataset: Body) -> None:
        claim, _ = self._leases.pop(dataset["slug"], (0, 0.0))
        if claim:
            self.claims[claim].ended = True

    def _own(self, user: str, claim_id: str) -> FakeClaim:
        claim = self.claims.get(int(claim_id))
        if claim is None:
            raise _Problem(404, "There is no such claim.", "not_found")
        if claim.user != user:
            raise _Problem(403, "This claim is another user's.", "not_yours")
        return claim

    def _current(self, user: str, claim_id: str, fence: int) -> FakeClaim:
        claim = self._own(user, claim_id)
        if claim.ended or claim.fence != fence or claim.dataset["fence"] != fence:
            raise _Problem(409, "The lease is lost.", "lease_lost")
        return claim

    def _heartbeat(self, user: str, body: Body, claim_id: str) -> httpx.Response:
        claim = self._current(user, claim_id, body["fence"])
        if "progress" in body:
            if not isinstance(body["progress"], dict):
                raise _Problem(400, "progress: an object is needed.", "invalid")
            claim.dataset["progress"] = body["progress"]
        if "log_tail" in body:
            if not isinstance(body["log_tail"], str):
                raise _Problem(400, "log_tail: a text is needed.", "invalid")
            self.log_tails[claim.dataset["slug"]] = body["log_tail"]
        ttl_s = self.projects[claim.dataset["parent"]]["lease_seconds"]
        self._leases[claim.dataset["slug"]] = (claim.id, self._now() + ttl_s)
        return httpx.Response(
            200, json={"ttl_s": ttl_s, "cancel": bool(claim.cancelled_by), "cancelled_by": claim.cancelled_by}
        )

    def _release(self, user: str, body: Body, claim_id: str) -> httpx.Response:
        claim = self._current(user, claim_id, body["fence"])
        self._end_claim_of(claim.dataset)
        claim.dataset["state"] = DatasetState.UNPROCESSED.value
        return httpx.Response(204)

    def _cancel(self, user: str, _: Body, claim_id: str) -> httpx.Response:
        self.claims[int(claim_id)].cancelled_by = user
        return httpx.Response(204)

    def _status(self, user: str, body: Body) -> httpx.Response:
        if body["site"] != self.url:
            raise _Problem(422, "The status belongs to a claim of another Crunch server.", "other_site")
        for stored in self.statuses:
            if stored["event_id"] == body["event_id"]:
                if any(stored[name] != value for name, value in body.items()):
                    raise _Problem(422, "This event_id was used for another status.", "event_id_reused")
                return httpx.Response(200, json=stored)
        claim = self._own(user, str(body["claim"]))
        live = not claim.ended and body["fence"] == claim.fence == claim.dataset["fence"]
        stored = {**body, "effective": live and self._moves(claim, Stage(body["stage"]), State(body["state"]))}
        self.statuses.append(stored)
        if not live:
            raise _Problem(409, "The lease is lost; kept as history.", "stale_fence")
        if stored["effective"]:
            self._move(claim, Stage(body["stage"]), State(body["state"]))
        return httpx.Response(201, json=stored)

    def _moves(self, claim: FakeClaim, stage: Stage, state: State) -> bool:
        """Forward only, and of one stage's Success and Fail the first."""
        reached = [
            (status["stage"], status["state"])
            for status in self.statuses
            if status["fence"] == claim.fence and status["dataset"] == claim.dataset["id"] and status["effective"]
        ]
        last = max(reached, default=(0, 0))
        return (stage, state) > last and not (stage == last[0] and last[1] != State.START)

    def _move(self, claim: FakeClaim, stage: Stage, state: State) -> None:
        ends = {(stage, State.FAIL): DatasetState.FAILED, (Stage.UPLOAD, State.SUCCESS): DatasetState.COMPLETED}
        reached = ends.get((stage, state))
        if reached is not None:
            claim.dataset["state"] = reached.value
            self._end_claim_of(claim.dataset)

    def _get(self, _user: str, _body: Body, kind: str, slug: str) -> httpx.Response:
        found = (self.projects if kind == "projects" else self.datasets).get(slug)
        if found is None:
            raise _Problem(404, "Not found.", "not_found")
        return httpx.Response(200, json=found)

    def _hold(self, _user: str, body: Body, slug: str) -> httpx.Response:
        dataset = self.datasets.get(slug)
        if dataset is None:
            raise _Problem(404, "Not found.", "not_found")
        dataset["locked"] = body["locked"]
        return httpx.Response(200, json=dataset)

    def _reset(self, _user: str, _body: Body, slug: str) -> httpx.Response:
        dataset = self.datasets.get(slug)
        if dataset is None:
            raise _Problem(404, "Not found.", "not_found")
        self._end_claim_of(dataset)
        dataset.update(state=DatasetState.UNPROCESSED.value, fence=dataset["fence"] + 1, attempt=0)
        return httpx.Response(200, json=dataset)

    def _next(self, _user: str, _body: Body, project: str = "") -> httpx.Response:
        found = self._candidate(project)
        answer = {"project": found["parent"], "dataset": found["slug"]} if found else {"project": "", "dataset": ""}
        return httpx.Response(200, json=answer)

    def _list(
        self, _user: str, _body: Body, kind: str, page: str = "1", page_size: str = "20", **asked: str
    ) -> httpx.Response:
        rows: list[Body] = {
            "projects": list(self.projects.values()),
            "datasets": [
                row
                for row in self.datasets.values()
                if asked.get("project", row["parent"]) == row["parent"]
                and asked.get("state", row["state"]) == row["state"]
                and ("lease" not in asked or self._is_lost(row))
            ],
            "statuses": self.statuses,
        }[kind]
        size = int(page_size)
        end = int(page) * size
        more = httpx.URL(f"{self.url}/api/{kind}/", params={**asked, "page": int(page) + 1, "page_size": size})
        following = str(more) if end < len(rows) else None
        results = rows[end - size : end]
        return httpx.Response(200, json={"count": len(rows), "next": following, "previous": None, "results": results})

    def _create(self, _user: str, body: Body, kind: str) -> httpx.Response:
        if kind == "projects":
            return httpx.Response(201, json=self.add_project(**body))
        if kind == "datasets":
            return httpx.Response(201, json=self.add_dataset(**body))
        self.added.append((kind, body))
        return httpx.Response(201, json={**body, "slug": f"{body.get('parent', '')}:{body.get('name', '')}"})


class _Problem(Exception):
    def __init__(self, status: int, detail: str, code: str = "") -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.code = code
