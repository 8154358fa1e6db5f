"""How many requests a process works on at once; the others wait for their turn, for a while.

An ASGI server begins every request as it comes, each in a thread with a connection to the database of its own: with
some hundred clients PostgreSQL would refuse the connections beyond its limit, and they would be answered 500.
"""

from __future__ import annotations

import contextlib
import re
import threading
from collections.abc import Callable

from django.db import connections
from django.http import HttpRequest, HttpResponse, HttpResponseBase

from crunch_tasks.errors import Refused
from server.operations.refusals import answer, api_path

AT_ONCE = 20
"""Four processes of them, with a connection for each one's webhooks and one for `bodies`, fit into PostgreSQL's usual
hundred."""

PAGES_AT_ONCE = 10
"""Of them, so many pages and calls about files: they may wait for a storage, and claims and heartbeats are not to wait
for that."""

TURN_S = 10.0
"""So long a request waits for its turn, in seconds. Clients wait 30 s for an answer: a server that worked on what came
later to its turn would get nothing done as long as the load lasts."""

_OF_FILES = re.compile("datasets/[^/]+/(files|uploads)/")

BUSY = "The server has more requests than it can answer now. Try again."


class AtOnce:
    """Middleware, to stand before all that asks the database."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response
        self.turns = threading.BoundedSemaphore(AT_ONCE)
        self.pages = threading.BoundedSemaphore(PAGES_AT_ONCE)

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        with contextlib.ExitStack() as stack:
            for turns in [self.pages, self.turns] if _may_wait(request) else [self.turns]:
                if not turns.acquire(timeout=TURN_S):
                    return _busy(request)
                stack.callback(turns.release)
            # Django would close them when the answer is sent, of a large file after hours.
            stack.callback(close_connections)
            return self.get_response(request)


def close_connections() -> None:
    for connection in connections.all(initialized_only=True):
        if not connection.in_atomic_block:
            connection.close()


def _may_wait(request: HttpRequest) -> bool:
    """Whether a storage may have to answer first."""
    path = api_path(request)
    return path is None or _OF_FILES.match(path) is not None


def _busy(request: HttpRequest) -> HttpResponse:
    return answer(request, Refused(BUSY, 503, "busy"))
