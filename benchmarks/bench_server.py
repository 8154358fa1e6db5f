"""`make bench-server`: each page and each call that answers one page of rows, with few datasets and with very many.

On PostgreSQL, through Django's test client: the work of the server and its database, without a network. Each call is
made of few and of very many in turns, so that what else slows the machine slows both. It prints the medians side by
side, and how PostgreSQL goes about the queries of the project's page.
"""

from __future__ import annotations

import itertools
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks import in_process
from tests.support.servers import Postgres, crunch_server, postgres

if TYPE_CHECKING:
    from django.db.backends.base.base import BaseDatabaseWrapper
    from django.test import Client

FEW, MANY = 1_000, 1_000_000
TIMES = 20

PROJECT = "/projects/birds/"

HOT = [
    PROJECT,
    f"{PROJECT}?state=failed&sort=updated",
    f"{PROJECT}?state=running&sort=unchanged",
    f"{PROJECT}?state=failed&q=sample",
    f"{PROJECT}failures",
]
"""Pages whose queries are explained."""


@dataclass(frozen=True)
class Side:
    """One of the two databases, and what is measured in it, by name."""

    connection: BaseDatabaseWrapper
    browser: Client
    calls: dict[str, Callable[[], Any]]


def main() -> None:
    in_process.set_up()
    with ExitStack() as stack:
        cluster = stack.enter_context(postgres())
        few = _side(stack, cluster, FEW)
        many = _side(stack, cluster, MANY)
        middle = _middle_of_updated(MANY)
        for path in (middle, *HOT):
            _explain(many.browser, path)
        print(f"\n| | ms at {FEW:,} | ms at {MANY:,} | x |\n|---|---:|---:|---:|")
        for name in few.calls:
            before, after = _medians_ms(few, many, name)
            print(f"| {name} | {before:.1f} | {after:.1f} | {after / before:.2f} |", flush=True)


def _side(stack: ExitStack, cluster: Postgres, count: int) -> Side:
    """A new database with `count` datasets, and a server on it."""
    from benchmarks.server_rows import fill

    address = cluster.new_database()
    connection = stack.enter_context(in_process.database(address))
    began = time.perf_counter()
    fill(count)
    print(f"{count:,} datasets filled in in {time.perf_counter() - began:.0f} s", file=sys.stderr)
    browser = in_process.alice()
    calls = _calls(browser, count)
    return Side(connection, browser, calls | {"API claim, through HTTP": _claim_over_http(stack, address)})


def _calls(browser: Client, count: int) -> dict[str, Callable[[], Any]]:
    middle = f"sample-{count // 2:07}"
    dataset = f"birds:{middle}"
    number = browser.get(f"/api/datasets/{dataset}/").json()["id"]
    paths = {
        "project": PROJECT,
        "project, from the middle": f"{PROJECT}?after={middle}",
        "project, last updated": f"{PROJECT}?sort=updated",
        "project, last updated, from the middle": _middle_of_updated(count),
        "project, running, longest unchanged": f"{PROJECT}?state=running&sort=unchanged",
        "project, failed": f"{PROJECT}?state=failed",
        "project, failed, last updated": f"{PROJECT}?state=failed&sort=updated",
        "project, search": f"{PROJECT}?q=sample-00005",
        "project, failed, search": f"{PROJECT}?state=failed&q=sample",
        "dataset": f"{PROJECT}datasets/{dataset}",
        "hold, all": f"{PROJECT}hold",
        "reset, all": f"{PROJECT}reset",
        "hold, unprocessed": f"{PROJECT}hold?state=unprocessed",
        "hold, search": f"{PROJECT}hold?q=sample",
        "map": f"{PROJECT}map",
        "API places": "/api/projects/birds/places/",
        "changes": f"{PROJECT}changes",
        "projects": "/",
        "API projects": "/api/projects/",
        "API datasets": "/api/datasets/",
        "API datasets, expired leases": "/api/datasets/?project=birds&lease=expired",
        "API dataset": f"/api/datasets/{dataset}/",
        "API statuses of a dataset": f"/api/statuses/?dataset={number}",
        "API next": "/api/next/",
    }
    claimed: list[dict[str, Any]] = []
    numbers = itertools.count()
    return {
        **{name: partial(_get, browser, path) for name, path in paths.items()},
        "API claim": lambda: claimed.append(_claim(browser, next(numbers))),
        "API status": lambda: _start(browser, claimed.pop(0)),
        "failures (with the number of failed ones)": partial(_get, browser, f"{PROJECT}failures"),
    }


def _middle_of_updated(count: int) -> str:
    """The address of the page that begins in the middle of the order by time."""
    from server.models import Dataset
    from server.pages import grid

    dataset = Dataset.objects.get(slug=f"birds:sample-{count // 2:07}")
    return f"{PROJECT}?sort=updated&after={grid.cursor(grid.UPDATED, dataset)}"


def _get(browser: Client, path: str) -> Any:
    return _expect(200, browser.get(path))


def _claim(browser: Client, number: int) -> dict[str, Any]:
    body = {"project": "birds", "request_id": f"r{number}", "client": "bench"}
    answer = browser.post("/api/claims/", json.dumps(body), content_type="application/json")
    found: dict[str, Any] = _expect(201, answer).json()
    return found


def _claim_over_http(stack: ExitStack, address: str) -> Callable[[], None]:
    """A claim by a client that keeps its connection, from a server of one process that has answered some."""
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
    server = stack.enter_context(crunch_server(folder / "server", database_url=address, users=("bob",)))
    http = stack.enter_context(server.client("bob"))
    numbers = itertools.count()

    def claim() -> None:
        body = {"project": "birds", "request_id": f"http{next(numbers)}", "client": "bench"}
        answer = http.post("/api/claims/", json=body)
        if answer.status_code != 201:
            raise RuntimeError(f"A claim was answered {answer.status_code}: {answer.text[:500]}")

    for _ in range(TIMES // 2):
        claim()
    return claim


def _start(browser: Client, claim: dict[str, Any]) -> None:
    body = {"dataset": claim["dataset"]["id"], "claim": claim["claim"], "fence": claim["fence"], "stage": 1, "state": 1}
    body["event_id"] = f"bench-{claim['claim']}"
    _expect(201, browser.post("/api/statuses/", json.dumps(body), content_type="application/json"))


def _expect(status: int, answer: Any) -> Any:
    if answer.status_code != status:
        raise RuntimeError(f"{answer.request['PATH_INFO']} answered {answer.status_code}: {answer.content[:500]!r}")
    return answer


def _medians_ms(few: Side, many: Side, name: str) -> tuple[float, float]:
    """Milliseconds of the call on each side, made in turns."""
    times: tuple[list[float], list[float]] = [], []
    for turn in range(TIMES + 1):
        for side, took in zip((few, many), times, strict=True):
            in_process.use(side.connection)
            began = time.perf_counter()
            side.calls[name]()
            if turn:  # What is read or compiled once is no part of it.
                took.append(1000 * (time.perf_counter() - began))
    return statistics.median(times[0]), statistics.median(times[1])


def _explain(browser: Client, path: str) -> None:
    """Print how PostgreSQL answers each query on datasets of this page."""
    from django.db import connection
    from django.test.utils import CaptureQueriesContext

    with CaptureQueriesContext(connection) as captured:
        browser.get(path)
    for query in captured.captured_queries:
        if 'FROM "server_dataset"' in query["sql"]:
            with connection.cursor() as cursor:
                cursor.execute("EXPLAIN (ANALYZE, COSTS OFF) " + query["sql"].replace("%", "%%"))
                plan = "\n".join(line for (line,) in cursor.fetchall())
            where = query["sql"].partition(" WHERE ")[2]
            print(f"\n{path}\n... WHERE {where}\n{plan}")


if __name__ == "__main__":
    main()
