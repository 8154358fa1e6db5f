"""Statuses written down before they are sent: one file for each event, in the run's state folder.

    STATE_FOLDER/outbox/FENCE-STAGE-STATE.json    to be delivered, in the order of those three numbers
    STATE_FOLDER/sent/...                         delivered; the answer says whether it was effective
    STATE_FOLDER/refused/...                      the server will never take it; with the reason

A stage reaches a state once in a claim, so a name that is there already, in any of the three, is not written again.
"""

from __future__ import annotations

import contextlib
import json
import threading
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Any

from crunch_tasks.contract import Claim, Stage, State, StatusEvent, cap_note
from crunch_tasks.crash import Point, reached
from crunch_tasks.durable import STATE_FOLDER, make_folder, write_durably
from crunch_tasks.errors import WorkspaceError


class Place(StrEnum):
    """Where an event is."""

    OUTBOX = "outbox"
    SENT = "sent"
    REFUSED = "refused"


@dataclass(frozen=True)
class Recorded:
    """An event, where it is, and what the server said: `effective` once sent, `reason` when refused.

    Until then it is taken for effective, as nearly all are: so a file need only be renamed when it was sent.
    """

    event: StatusEvent
    place: Place
    folder: Path
    effective: bool = True
    reason: str = ""


def event_id(site: str, claim: int, stage: Stage, state: State) -> str:
    """The same for the same event wherever it is written down, so that the server takes it once."""
    return str(uuid.uuid5(uuid.NAMESPACE_URL, f"{site}#claim={claim}&stage={int(stage)}&state={int(state)}"))


def event_of(claim: Claim, stage: Stage, state: State, note: str = "") -> StatusEvent:
    """What a claim's holder has to say of a stage, its note fit for the wire."""
    return StatusEvent(
        event_id=event_id(claim.site, claim.claim, stage, state),
        site=claim.site,
        claim=claim.claim,
        fence=claim.fence,
        dataset=int(claim.dataset["id"]),
        stage=stage,
        state=state,
        note=cap_note(note),
    )


class Outbox:
    """The events of one dataset's runs from this directory; safe to share among threads.

    `news` is set when something was recorded; who delivers clears it.
    """

    def __init__(self, state_folder: Path) -> None:
        self.folder = state_folder
        self.news = threading.Event()
        self._lock = threading.Lock()

    def record(
        self,
        claim: Claim,
        stage: Stage,
        state: State,
        note: str = "",
        *,
        manifest_sha256: str = "",
        flow_run_id: str = "",
        flow_run_url: str = "",
        diagnostics: Mapping[str, Any] | None = None,
    ) -> bool:
        """Write an event down; it is on the disk on return. False when this one was recorded before.

        Raises WorkspaceError when it cannot be written.
        """
        event = replace(
            event_of(claim, stage, state, note),
            flow_run_id=flow_run_id,
            flow_run_url=flow_run_url,
            manifest_sha256=manifest_sha256,
            diagnostics=dict(diagnostics or {}),
        )
        with self._lock:
            earlier = self.find(claim.fence, stage, state)
            # A server that was made anew, or restored from a backup, gives old fences again.
            if earlier is not None and (earlier.event.site, earlier.event.claim) == (claim.site, claim.claim):
                return False
            self._write(Recorded(event, Place.OUTBOX, self.folder))
        self.news.set()
        reached(Point.EVENT_RECORDED)
        return True

    def find(self, fence: int, stage: Stage, state: State) -> Recorded | None:
        """The event and what became of it; None when it was never recorded."""
        name = f"{fence}-{int(stage)}-{int(state)}.json"
        # In the order in which a file moves, so that one on its way is not missed.
        for place in Place:
            recorded = self._read(place, name)
            if recorded is not None:
                return recorded
        return None

    def pending(self) -> list[Recorded]:
        """What is to be delivered, in order."""
        names = [path.name for path in (self.folder / Place.OUTBOX).glob("*.json")]
        found = (self._read(Place.OUTBOX, name) for name in sorted(names, key=_rank))
        return [recorded for recorded in found if recorded is not None]

    def delivered(self, recorded: Recorded, effective: bool) -> Recorded:
        """Set an event aside as sent."""
        return self._move(recorded, replace(recorded, place=Place.SENT, effective=effective))

    def refused(self, recorded: Recorded, reason: str) -> Recorded:
        """Set an event aside as refused for good."""
        return self._move(recorded, replace(recorded, place=Place.REFUSED, effective=False, reason=reason))

    def _move(self, recorded: Recorded, moved: Recorded) -> Recorded:
        """A crash may leave it in both places or, as no folder is synced, in the first: it is sent again, harmless."""
        path = self.folder / Place.OUTBOX / _name(recorded.event)
        if (moved.effective, moved.reason) == (recorded.effective, recorded.reason):
            with contextlib.suppress(FileNotFoundError):
                path.rename(make_folder(self.folder / moved.place) / path.name)
            reached(Point.EVENT_COPIED)
        else:
            self._write(moved)
            reached(Point.EVENT_COPIED)
            path.unlink(missing_ok=True)
        return moved

    def _write(self, recorded: Recorded) -> None:
        body = {
            "event": recorded.event.to_wire(),
            "effective": recorded.effective,
            "reason": recorded.reason,
        }
        write_durably(self.folder / recorded.place / _name(recorded.event), json.dumps(body).encode())

    def _read(self, place: Place, name: str) -> Recorded | None:
        path = self.folder / place / name
        try:
            body = json.loads(path.read_bytes())
            event = StatusEvent.from_wire(body["event"])
            return Recorded(event, place, self.folder, bool(body["effective"]), str(body["reason"]))
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise WorkspaceError(f"The status in {path} cannot be read ({error}); restore or remove it.") from error


def outboxes(directory: Path) -> Iterator[Outbox]:
    """The outboxes of all runs in `directory` in which something waits to be delivered."""
    for folder in sorted((directory / STATE_FOLDER).glob(f"*/*/{Place.OUTBOX}")):
        if any(folder.glob("*.json")):
            yield Outbox(folder.parent)


def _name(event: StatusEvent) -> str:
    return f"{event.fence}-{int(event.stage)}-{int(event.state)}.json"


def _rank(name: str) -> tuple[int, ...]:
    return tuple(int(part) for part in name.removesuffix(".json").split("-"))
