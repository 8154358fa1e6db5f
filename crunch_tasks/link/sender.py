"""Delivers the events of an outbox, in order, for as long as it takes."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Self

from crunch_tasks.crash import Point, reached
from crunch_tasks.errors import Refused, Unauthorized
from crunch_tasks.link import backoff
from crunch_tasks.link.client import CrunchClient
from crunch_tasks.link.outbox import Outbox, Recorded, outboxes

LONGEST_WAIT_S = 30.0
LAST_POST_S = 2.0

OTHER_SITE = "other_site"
"""The code of the server's refusal of a status that belongs to a claim of another server."""

log = logging.getLogger("crunch.outbox")


def deliver(client: CrunchClient, outbox: Outbox, recorded: Recorded, patience_s: float | None = None) -> Recorded:
    """Post one event and set it aside, as sent or, when the server will never take it, as refused.

    An event of another server's claim stays where it is, for that server, and comes back with the reason. Raises
    ServerError (ServerUnavailable, Unauthorized, no Crunch server there); the event then stays in the outbox too.
    """
    try:
        answer = client.post_status(recorded.event, patience_s=patience_s)
        reached(Point.EVENT_ANSWERED)
    except Refused as error:
        if error.code == OTHER_SITE:
            return replace(recorded, effective=False, reason=str(error))
        return outbox.refused(recorded, str(error))
    return outbox.delivered(recorded, bool(answer.get("effective")))


def deliver_all(
    directory: Path, client: CrunchClient, hold: Callable[[Path], AbstractContextManager[object]]
) -> list[Recorded]:
    """Deliver what earlier runs in `directory` left undelivered; returns each event with what the server said.

    `hold` takes a run's state folder for the time; what it yields is None when the folder was free, and otherwise
    the folder is left alone: a live run delivers its own events, in their order. An effective Upload Success among
    the delivered means that its promotion may have to be finished. Raises ServerError as `deliver` does; what was
    not delivered is still there.
    """
    delivered = []
    for outbox in outboxes(directory):
        with hold(outbox.folder) as holder:
            if holder is None:
                delivered += [deliver(client, outbox, recorded) for recorded in outbox.pending()]
    return delivered


class Sender:
    """A thread that delivers what is recorded in an outbox, in order: `with Sender(client, outbox) as sender`.

    A refused token stops it: `error` then holds what `flush` raises. `results` are the events that were answered.
    """

    def __init__(self, client: CrunchClient, outbox: Outbox) -> None:
        self.client = client
        self.outbox = outbox
        self.error: Unauthorized | None = None
        self.results: list[Recorded] = []
        self._stop = threading.Event()
        self._idle = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="outbox", daemon=True)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Begin to deliver, what is in the outbox already first."""
        self.outbox.news.set()
        self._thread.start()

    def flush(self, timeout_s: float) -> int:
        """Wait until all is delivered, `timeout_s` seconds at most; returns how many events are not.

        Raises Unauthorized when the server does not accept the token; the outbox is kept.
        """
        deadline = time.monotonic() + timeout_s
        self.outbox.news.set()
        with self._idle:
            while True:
                waiting = len(self.outbox.pending())
                if waiting and self.error is not None:
                    raise self.error
                left = deadline - time.monotonic()
                if not waiting or left <= 0:
                    return waiting
                self._idle.wait(left)

    def stop(self) -> None:
        """End the thread; what is not delivered stays in the outbox."""
        self._stop.set()
        self.outbox.news.set()
        if self._thread.is_alive():
            # What is on its way may take long to time out; it stays in the outbox and can be sent again.
            self._thread.join(LAST_POST_S)

    def _run(self) -> None:
        failures = 0
        while not self._stop.is_set() and self.error is None:
            self.outbox.news.wait()
            self.outbox.news.clear()
            try:
                for recorded in self.outbox.pending():
                    if self._stop.is_set():
                        return
                    self._deliver(recorded)
                    failures = 0
            except Unauthorized as error:
                log.warning("Statuses are kept in %s: %s", self.outbox.folder, error)
                self.error = error
            except Exception as error:  # noqa: BLE001 - whatever it is, the events must arrive
                level = logging.INFO if failures else logging.WARNING
                log.log(level, "Statuses wait in %s: %s", self.outbox.folder, error)
                self._stop.wait(backoff.wait_s(failures, error, LONGEST_WAIT_S))
                failures += 1
                self.outbox.news.set()
            with self._idle:
                self._idle.notify_all()

    def _deliver(self, recorded: Recorded) -> None:
        # Asked once here: the waits between are this thread's own, which `stop` can cut short.
        result = deliver(self.client, self.outbox, recorded, patience_s=0)
        self.results.append(result)
        event = result.event
        if result.reason:
            log.warning("The status %s %s was refused: %s", event.stage.name, event.state.name, result.reason)
