"""What a client with an end remembers of its good runs, and the datasets that it gives back, as time is too short."""

from __future__ import annotations

import contextlib
import datetime as dt
import json
from pathlib import Path

from crunch_tasks.contract import Claim
from crunch_tasks.durable import STATE_FOLDER, write_durably
from crunch_tasks.errors import NoTime, WorkspaceError
from crunch_tasks.forecast import LAST, PastRun, expected_s
from crunch_tasks.settings import ClientSettings


class PastRuns:
    """The last good runs of a claim's project in the settings' directory, where the client has an end."""

    def __init__(self, settings: ClientSettings, claim: Claim) -> None:
        self._settings = settings
        self._site = claim.site
        self._slug = claim.slug
        self._path: Path = settings.directory / STATE_FOLDER / "past_runs" / f"{claim.project['slug']}.json"

    def check(self, size: int) -> None:
        """Raises NoTime when the dataset, which has `size` bytes, is not expected to be done before the end."""
        left = self._settings.seconds_left()
        if left is None:
            return
        needed = expected_s(size, self._read())
        if needed > left:
            raise NoTime(
                f"{self._slug} has {size} bytes and, by earlier runs here, may take {_span(needed)}; {_span(left)} are "
                "left. It is left to others, who have more time."
            )

    def note(self, size: int, seconds: float) -> None:
        """The run is done. Of two that end at the same instant one may be forgotten, which changes no forecast much."""
        if self._settings.seconds_left() is None:
            return
        runs = [*self._read(), PastRun(size, round(seconds, 3))][-LAST:]
        # The results are committed, whatever becomes of what is remembered.
        with contextlib.suppress(WorkspaceError):
            write_durably(self._path, json.dumps({"site": self._site, "runs": runs}).encode())

    def _read(self) -> list[PastRun]:
        """None where they are another server's, or cannot be understood."""
        try:
            kept = json.loads(self._path.read_bytes())
            runs = [PastRun(int(size), float(seconds)) for size, seconds in kept["runs"]]
            return runs if kept["site"] == self._site else []
        except (OSError, ValueError, TypeError, KeyError):
            return []


def _span(seconds: float) -> str:
    return str(dt.timedelta(seconds=round(seconds)))
