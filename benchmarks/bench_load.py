"""`make bench-load`: two hundred clients at once, each claiming, renewing and reporting, against a real server.

The server is uvicorn with two processes on PostgreSQL, on this machine, which the clients share with it. Each client
says something every four seconds, far more often than a real one. With `--pause 0` all speak without a pause, which
shows the most that the server can do. It ends with exit code 1 after any answer that is not the expected one.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import sys
import tempfile
import time
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import httpx

from tests.support.servers import crunch_server, postgres

CLIENTS = 200
SECONDS = 60
DATASETS = 60_000
"""Of these, 7 % are unprocessed."""

HEARTBEATS = 3
WORKERS = 2
MANIFEST = "ab" * 32


class Load:
    """What the clients met: the milliseconds of each kind of call, and the answers that were wrong."""

    def __init__(self, pause: float) -> None:
        self.pause = pause
        self.times: defaultdict[str, list[float]] = defaultdict(list)
        self.errors: Counter[str] = Counter()
        self.over = time.monotonic() + SECONDS

    async def client(self, http: httpx.AsyncClient, number: int) -> None:
        """Process datasets until the time is over."""
        run = 0
        while time.monotonic() < self.over:
            run += 1
            body = {"project": "birds", "request_id": f"{number}-{run}", "client": f"node{number}"}
            if (claim := await self.call(http, "claim", "claims/", body, 201)) is not None:
                await self.process(http, claim)

    async def process(self, http: httpx.AsyncClient, claim: dict[str, Any]) -> None:
        held = {"claim": claim["claim"], "fence": claim["fence"], "dataset": claim["dataset"]["id"]}
        for stage in (1, 2, 3):
            for state in (1, 2):
                event = {"event_id": f"{claim['claim']}-{stage}-{state}", "stage": stage, "state": state}
                last = {"manifest_sha256": MANIFEST} if (stage, state) == (3, 2) else {}
                await self.call(http, "status", "statuses/", {**held, **event, **last}, 201)
                if stage == 2 and state == 1:
                    for _ in range(HEARTBEATS):
                        path = f"claims/{claim['claim']}/heartbeat/"
                        await self.call(http, "heartbeat", path, {"fence": claim["fence"]}, 200)

    async def call(self, http: httpx.AsyncClient, kind: str, path: str, body: dict[str, Any], good: int) -> Any:
        await asyncio.sleep(min(random.uniform(0, 2 * self.pause), max(self.over - time.monotonic(), 0)))
        if time.monotonic() >= self.over:
            return None
        began = time.perf_counter()
        try:
            answer = await http.post(f"/api/{path}", json=body)
        except httpx.TransportError as error:
            self.errors[f"{kind}: {type(error).__name__} {error}"] += 1
            return None
        self.times[kind].append(1000 * (time.perf_counter() - began))
        if answer.status_code != good:
            self.errors[f"{kind}: {answer.status_code} {answer.text[:200]}"] += 1
            return None
        return answer.json()

    def tell(self) -> None:
        print(f"\n{CLIENTS} clients, {WORKERS} server processes, {SECONDS} s, {self.pause:g} s between calls\n")
        print("| | a second | p50, ms | p95, ms | p99, ms |\n|---|---:|---:|---:|---:|")
        for kind, times in self.times.items():
            ordered = sorted(times)
            p50, p95, p99 = (ordered[int(len(ordered) * part)] for part in (0.5, 0.95, 0.99))
            print(f"| {kind} | {len(times) / SECONDS:.1f} | {p50:.0f} | {p95:.0f} | {p99:.0f} |")
        print(f"\n{sum(self.errors.values())} errors")
        for error, number in self.errors.most_common():
            print(f"{number} x {error}")


async def load(url: str, token: str, pause: float) -> Load:
    found = Load(pause)
    # Shorter than uvicorn keeps an idle one: else it may close one just when it is used again.
    limits = httpx.Limits(max_connections=CLIENTS, max_keepalive_connections=CLIENTS, keepalive_expiry=3)
    headers = {"Authorization": f"Token {token}"}
    async with httpx.AsyncClient(base_url=url, headers=headers, timeout=30, limits=limits, trust_env=False) as http:
        await asyncio.gather(*(found.client(http, number) for number in range(CLIENTS)))
    return found


def fill(database_url: str) -> None:
    """Datasets for everybody, in a database that has its tables."""
    os.environ |= {"DJANGO_SETTINGS_MODULE": "server.site.settings", "CRUNCH_DATABASE_URL": database_url}
    os.environ.setdefault("CRUNCH_SECRET_KEY", "only-for-measuring")
    import django

    django.setup()
    from django.db import connection

    from benchmarks import server_rows

    server_rows.fill(DATASETS)
    connection.close()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.bench_load")
    parser.add_argument("--pause", type=float, default=4.0, metavar="S", help="the mean time between a client's calls")
    pause = parser.parse_args().pause
    with postgres() as cluster, tempfile.TemporaryDirectory() as folder:
        url = cluster.new_database()
        workers = {"WEB_CONCURRENCY": str(WORKERS)}
        with crunch_server(Path(folder) / "server", database_url=url, environment=workers, users=("alice",)) as server:
            fill(url)
            found = asyncio.run(load(server.url, server.tokens["alice"], pause))
            log = server.log.read_text()
    found.tell()
    if found.errors:
        print(f"\nThe end of the server's log:\n{log[-3000:]}", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()
