"""The real server: each call goes through Django, with all its middleware, rights, views, services and the database.

Only its clock is not real: `virtual_clock` puts the simulation's in its place. Costs are CPU seconds, which say the
same on a machine that is busy with other things; waiting for a disk is no part of them.
"""

from __future__ import annotations

import datetime as dt
import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.simulation.calls import Answer, Call, Cost

if TYPE_CHECKING:
    from django.test import Client


class RealSite:
    """A Crunch server in this process, which measures what each call costs it.

    `browser` has a user's token; `postmaster` is the id of PostgreSQL's first process, None with SQLite, which works in
    the process of the server.
    """

    def __init__(self, browser: Client, postmaster: int | None = None) -> None:
        self.browser = browser
        self.postmaster = postmaster

    def do(self, call: Call, now: float) -> tuple[Answer, Cost]:  # noqa: ARG002 - the clock tells it
        body = json.dumps(call.body)
        database, used = self._database_s(), time.thread_time()
        answer = self.browser.post(f"/api/{call.path}", body, content_type="application/json")
        cost = Cost(time.thread_time() - used, max(0.0, self._database_s() - database))
        if answer.status_code >= 500 or answer.status_code == 400:
            raise RuntimeError(f"{call} was answered {answer.status_code}: {answer.content[:500]!r}")
        told = json.loads(answer.content) if answer.content else {}
        return Answer(answer.status_code, told), cost

    def _database_s(self) -> float:
        """CPU seconds of PostgreSQL's processes so far: of connections, and what it does in the background."""
        if self.postmaster is None:
            return 0.0
        processes = Path(f"/proc/{self.postmaster}/task/{self.postmaster}/children").read_text().split()
        return sum(_cpu_s(int(number)) for number in processes)


def _cpu_s(process: int) -> float:
    """CPU seconds of a process, to the microsecond; 0 of one that has ended."""
    try:
        return int(Path(f"/proc/{process}/schedstat").read_text().split()[0]) / 1e9
    except (FileNotFoundError, ProcessLookupError):
        return 0.0


@contextmanager
def virtual_clock(now: Callable[[], float]) -> Iterator[None]:
    """The server's clock shows the beginning of this context and `now()` seconds."""
    from django.utils import timezone

    real = timezone.now
    begin = real()
    timezone.now = lambda: begin + dt.timedelta(seconds=now())
    try:
        yield
    finally:
        timezone.now = real
