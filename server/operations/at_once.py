"""How many requests a process works on at once; the others wait for their turn.

An ASGI server begins every request as it comes, each in a thread with a connection to the database of its own: with
some hundred clients PostgreSQL would refuse the connections beyond its limit, and they would be answered 500.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from django.db import connections
from django.http import HttpRequest, HttpResponseBase

AT_ONCE = 20
"""Four processes of them, with a connection for each one's webhooks, fit into PostgreSQL's usual hundred."""


class AtOnce:
    """Middleware, to stand before all that asks the database."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response
        self.turns = threading.BoundedSemaphore(AT_ONCE)

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        with self.turns:
            try:
                return self.get_response(request)
            finally:
                # Django would close them when the answer is sent, of a large file after hours.
                for connection in connections.all(initialized_only=True):
                    if not connection.in_atomic_block:
                        connection.close()
