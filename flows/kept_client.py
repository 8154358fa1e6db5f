"""The connection to Prefect's server, kept from one flow run to the next one in the same context.

Prefect would open one for each flow run, and read the machine's certificates each time, which takes longer than all
requests of a small run together.
"""

from __future__ import annotations

import contextvars
from contextlib import ExitStack

import httpx
from prefect.context import SyncClientContext

_kept: contextvars.ContextVar[ExitStack] = contextvars.ContextVar("what closes this context's client")


def keep_client() -> None:
    """Open this context's connection, unless it has one. Raises what Prefect raises when its server is away."""
    if SyncClientContext.get() is None:
        stack = ExitStack()
        stack.enter_context(SyncClientContext.get_or_create())
        _kept.set(stack)


BUSY = (429, 502, 503, 504)
"""What Prefect's server answers while it cannot serve, 503 when its database is slow, or a proxy before it."""


def is_away(problem: object) -> bool:
    """Whether what Prefect raised says that its server did not answer, or has too much to do."""
    if isinstance(problem, httpx.HTTPStatusError):
        return problem.response.status_code in BUSY
    return isinstance(problem, httpx.TransportError) or "Failed to reach API" in str(problem)


def close_client() -> None:
    """Close what `keep_client` opened in this context, if it did."""
    stack = _kept.get(None)
    if stack is not None:
        stack.close()


class Contexts:
    """Contexts for threads, copies of the one that this is made in: each is one thread's at a time, and then another's.

    Prefect knows by its context whose flow run one belongs to.
    """

    def __init__(self) -> None:
        self._here = contextvars.copy_context()
        self._idle: list[contextvars.Context] = []

    def take(self) -> contextvars.Context:
        """A context for one thread, which gives it back."""
        return self._idle.pop() if self._idle else self._here.copy()

    def give_back(self, context: contextvars.Context) -> None:
        self._idle.append(context)

    def close(self) -> None:
        """Close the connections of those that were given back."""
        while self._idle:
            self._idle.pop().run(close_client)
