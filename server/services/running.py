"""What a run that goes on has told of itself so far: how many of its steps are done, and its last lines of output."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from server.models import Dataset, LogTail
from server.services.datasets import is_running


@dataclass(frozen=True)
class Progress:
    """How many steps of the workflow are done."""

    done: int
    total: int


def progress(told: Any) -> Progress | None:
    """What a client told with its heartbeats, where it is steps of a whole; it may be anything that JSON can say."""
    match told:
        case {"done": int(done), "total": int(total)} if 0 <= done <= total and total > 0:
            return Progress(done, total)
    return None


def log_tail(dataset: Dataset) -> LogTail | None:
    """The last lines that the run wrote, if it goes on and wrote any."""
    return LogTail.objects.filter(dataset=dataset).exclude(text="").first() if is_running(dataset) else None
