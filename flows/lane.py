"""One dataset of several that are on their way at once: its lease, its thread, and how far it is."""

from __future__ import annotations

import threading

from crunch_tasks.link.lease import Lease
from crunch_tasks.run import DatasetRun

LOOK_S = 0.5
"""How often a waiting thread looks whether it was stopped, in seconds."""


class Lane:
    """One dataset on its way; `run` is there once its workspace is."""

    def __init__(self, lease: Lease) -> None:
        self.lease = lease
        self.slug = lease.claim.slug
        self.wants_room = False
        self.is_ready = False
        self.computes = False
        self.has_computed = False
        self.thread: threading.Thread | None = None
        self.run: DatasetRun | None = None

    def has(self, run: DatasetRun) -> None:
        self.run = run

    @property
    def is_alive(self) -> bool:
        return self.thread is not None and self.thread.is_alive()

    def join(self) -> None:
        """Wait for its end, LOOK_S seconds at most."""
        if self.thread is not None:
            self.thread.join(LOOK_S)

    @property
    def is_ahead(self) -> bool:
        """Whether its workflow has not begun."""
        return not self.computes and not self.has_computed
