"""Prefect's word on a run: was it cancelled there? Told to the run's lease, so that its stage ends and says so."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Self
from uuid import UUID

import httpx
from prefect.client.orchestration import get_client
from prefect.context import FlowRunContext
from prefect.exceptions import PrefectException
from prefect.logging import get_logger
from prefect.settings import PREFECT_API_REQUEST_TIMEOUT, PREFECT_CLIENT_MAX_RETRIES, temporary_settings

EVERY_S = 10.0
"""Seconds between two looks, as often as a Prefect worker asks for work."""

QUESTION_S = 4.0
"""How long to wait for Prefect's answer."""

CANCELLED = "Cancelled in Prefect."


def current_flow_runs() -> list[UUID]:
    """The flow run that we are in, if any: cancelling it means every run below it."""
    context = FlowRunContext.get()
    return [context.flow_run.id] if context is not None and context.flow_run is not None else []


def is_cancelled(flow_runs: Sequence[UUID]) -> bool:
    """Whether Prefect has one of these flow runs down as Cancelling or Cancelled; False when it cannot be asked."""
    answers: list[bool] = []
    if flow_runs:
        # In a thread: in a flow's own, Prefect would take its client with its own long waits.
        asking = threading.Thread(target=lambda: answers.append(_ask(flow_runs)), name="ask Prefect", daemon=True)
        asking.start()
        asking.join(QUESTION_S)
    return answers == [True]


def _ask(flow_runs: Sequence[UUID]) -> bool:
    # A run that is being stopped has seconds, so one short question must do.
    quick = temporary_settings({PREFECT_API_REQUEST_TIMEOUT: QUESTION_S, PREFECT_CLIENT_MAX_RETRIES: 0})
    try:
        with quick, get_client(sync_client=True) as client:
            states = [client.read_flow_run(flow_run).state for flow_run in flow_runs]
    except (PrefectException, httpx.HTTPError, OSError, ValueError, RuntimeError) as error:
        get_logger("crunch").info("Prefect could not be asked whether the run was cancelled: %s", error)
        return False
    return any(state is not None and (state.is_cancelling() or state.is_cancelled()) for state in states)


class CancelWatch:
    """While the context is open, a thread looks now and then whether Prefect cancelled, and tells `cancel`.

    Prefect ends a worker's processes by itself; nobody ends a run that was started at a terminal.
    """

    def __init__(self, flow_runs: Callable[[], Sequence[UUID]], cancel: Callable[[str], None]) -> None:
        self.flow_runs = flow_runs
        self.cancel = cancel
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="cancel watch", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()

    def _watch(self) -> None:
        while not self._over.wait(EVERY_S):
            if is_cancelled(self.flow_runs()):
                self.cancel(CANCELLED)
                return
