"""A server in memory that keeps the promises of the real one's API, for tests; see `crunch_tasks.testing`."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import httpx

from crunch_tasks.link.client import CrunchClient
from crunch_tasks.link.fake_catalogue import Body, Problem
from crunch_tasks.link.fake_claims import FakeClaims


@dataclass
class FakeServer(FakeClaims):
    """The server's API over httpx, without a network: `fake.client()` talks to it.

    `tokens` maps tokens to users. `requests` lists method and path of all that arrived. `before` and `after` each see a
    request, before and after it is carried out, and may raise an httpx error, as a broken line does, or return an
    answer of their own.
    """

    tokens: dict[str, str] = field(default_factory=lambda: {"alices-token": "alice", "bobs-token": "bob"})
    requests: list[tuple[str, str]] = field(default_factory=list)
    before: Callable[[httpx.Request], httpx.Response | None] | None = None
    after: Callable[[httpx.Request], httpx.Response | None] | None = None
    _lock: threading.RLock = field(default_factory=threading.RLock)

    def client(self, token: str = "alices-token", **options: Any) -> CrunchClient:  # noqa: S107 - a fake's token
        return CrunchClient(self.url, token, transport=httpx.MockTransport(self.answer), **options)

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
            except Problem as problem:
                answer = httpx.Response(problem.status, json={"detail": problem.detail, "code": problem.code})
        late = self.after(request) if self.after else None
        return late or answer

    # --- inside ---

    def _route(self, request: httpx.Request) -> httpx.Response:
        user = self.tokens.get(request.headers.get("authorization", "").removeprefix("Token "))
        if user is None:
            raise Problem(401, "Invalid token.")
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
        raise Problem(404, "Not found.", "not_found")

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
        return self._page(rows, kind, int(page), int(page_size), asked)
