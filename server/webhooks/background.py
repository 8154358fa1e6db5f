"""The server's own thread that sends what webhooks are due. Each process of a ready site has one.

It looks when this process has something to tell, and else now and then: for what is to be tried again, and what a
process that was killed has left.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from django.db import connections

LOOK_EACH_S = 15.0

_log = logging.getLogger(__name__)


class Worker:
    """A thread that does the work of `start`, at once and whenever it is woken; none in a process without a start."""

    def __init__(self) -> None:
        self._work: Callable[[], object] | None = None
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()
        self._awake = threading.Event()

    def start(self, work: Callable[[], object]) -> None:
        self._work = work
        self.wake()

    def wake(self) -> None:
        """There may be something to do."""
        if self._work is None:
            return
        self._awake.set()
        with self._lock:
            # A server that forks its workers leaves the thread behind: each makes its own with the first wake.
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._run, args=(self._work,), name="webhooks", daemon=True)
                self._thread.start()

    def _run(self, work: Callable[[], object]) -> None:
        while True:
            self._awake.wait(LOOK_EACH_S)
            self._awake.clear()
            try:
                work()
            # The database may be away, or not migrated yet. This thread is the only one to try again.
            except Exception as error:  # noqa: BLE001
                _log.warning("Webhooks are not sent now: %s", error)
            finally:
                connections.close_all()


worker = Worker()
"""This process's."""
