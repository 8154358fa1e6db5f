"""The catalogue of the fake server: projects, datasets, and what else was added."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import httpx

from crunch_tasks.contract import LEASE_SECONDS, MAX_ATTEMPTS, DatasetState, WorkflowType

Body = dict[str, Any]


@dataclass
class FakeCatalogue:
    """Projects and datasets by slug, as they are on the wire; `added` has the kind and body of all others."""

    lease_seconds: float = LEASE_SECONDS
    max_attempts: int = MAX_ATTEMPTS
    url: str = "http://crunch.test"
    projects: dict[str, Body] = field(default_factory=dict)
    datasets: dict[str, Body] = field(default_factory=dict)
    added: list[tuple[str, Body]] = field(default_factory=list)

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

    # --- its requests ---

    def _get(self, _user: str, _body: Body, kind: str, slug: str) -> httpx.Response:
        found = (self.projects if kind == "projects" else self.datasets).get(slug)
        if found is None:
            raise Problem(404, "Not found.", "not_found")
        return httpx.Response(200, json=found)

    def _hold(self, _user: str, body: Body, slug: str) -> httpx.Response:
        dataset = self.datasets.get(slug)
        if dataset is None:
            raise Problem(404, "Not found.", "not_found")
        dataset["locked"] = body["locked"]
        return httpx.Response(200, json=dataset)

    def _page(self, rows: list[Body], kind: str, page: int, size: int, asked: Mapping[str, str]) -> httpx.Response:
        end = page * size
        more = httpx.URL(f"{self.url}/api/{kind}/", params={**asked, "page": page + 1, "page_size": size})
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


class Problem(Exception):
    """A request that is refused."""

    def __init__(self, status: int, detail: str, code: str = "") -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.code = code
