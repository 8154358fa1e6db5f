"""The moments at which a test ends, stops or interrupts a process for real: all of them, in the order of a run.

    CRASH_AT=POINT:N[:SIGNAL]

sends the process that gets to POINT for the Nth time SIGNAL (KILL unless told, STOP, TERM, INT). Without the variable
a point costs one look into the environment. Each point stands between two steps that a user relies on being safe.
"""

from __future__ import annotations

import itertools
import os
import signal
from collections import defaultdict
from collections.abc import Iterator
from enum import StrEnum

VARIABLE = "CRASH_AT"


class Point(StrEnum):
    """Where a process can be made to end; each says what was done last."""

    # The claim.
    CLAIM_WRITTEN = "claim-written"
    """The request is on the disk, and not sent."""
    CLAIM_ANSWERED = "claim-answered"
    """The server gave the claim, and nothing here knows of it."""
    WORKSPACE_BOUND = "workspace-bound"
    # Client state, wherever it is written.
    STATE_SYNCED = "state-synced"
    """A file of the client's own is written and synced, under its temporary name."""
    # Setup.
    INPUTS_RESOLVED = "inputs-resolved"
    SAVED_WORK_FETCHED = "saved-work-fetched"
    """What an earlier attempt saved is here; its records are not."""
    BLOCK_WRITTEN = "block-written"
    """Some of a large file is in its partial file."""
    FILE_WRITTEN = "file-written"
    """A file is whole and verified, under its partial name."""
    FILE_PLACED = "file-placed"
    INPUTS_PLACED = "inputs-placed"
    """All inputs are there, and no manifest says so."""
    OWN_FILE_WRITTEN = "own-file-written"
    # Workflow.
    WORKFLOW_STARTED = "workflow-started"
    WORKFLOW_ENDED = "workflow-ended"
    """It ended well, and nothing here says so."""
    # Upload.
    PLAN_SENT = "plan-sent"
    BLOCK_READ = "block-read"
    """Some of a large file is on its way, and not to be seen in the storage."""
    FILE_SENT = "file-sent"
    OWN_FILE_SENT = "own-file-sent"
    MANIFEST_SENT = "manifest-sent"
    # The statuses.
    EVENT_RECORDED = "event-recorded"
    EVENT_ANSWERED = "event-answered"
    """The server took an event that is still in the outbox."""
    EVENT_COPIED = "event-copied"
    """An event is in the outbox and set aside at once."""
    # After the commit.
    COMMITTED = "committed"
    FILE_PROMOTED = "file-promoted"
    ATTEMPT_REMOVED = "attempt-removed"
    """One object of an attempt that nobody needs is gone from the storage."""
    PROMOTED = "promoted"
    CLAIM_OVER = "claim-over"
    """The claim has ended, and its request is still on the disk."""
    LOCAL_FILE_REMOVED = "local-file-removed"
    """Of a workspace that is cleaned up."""
    STATE_PUT_AWAY = "state-put-away"
    """The state of such a run is out of the way, and still on the disk."""
    # A stop.
    WORK_SENT = "work-sent"
    """One file that a stopped workflow had finished is saved."""
    WORK_SAVED = "work-saved"
    """The list of them is saved too; the claim is not released."""
    RELEASED = "released"
    # The server's side.
    CLAIM_TAKEN = "claim-taken"
    """Before the transaction's end."""
    CLAIM_GRANTED = "claim-granted"
    """After it, before the answer."""
    STATUS_KEPT = "status-kept"
    """Before the transaction's end."""
    STATUS_TAKEN = "status-taken"
    """After it, before the answer."""


SERVER_POINTS = frozenset({Point.CLAIM_TAKEN, Point.CLAIM_GRANTED, Point.STATUS_KEPT, Point.STATUS_TAKEN})

# Counting up is one step of the interpreter, so that threads need no lock.
_counts: defaultdict[str, Iterator[int]] = defaultdict(lambda: itertools.count(1))


def reached(point: Point) -> None:
    """Nothing, unless a test wants this process to end here."""
    wanted = os.environ.get(VARIABLE)
    if wanted:
        _end_here(point, wanted)


def _end_here(point: Point, wanted: str) -> None:
    name, number, *how = wanted.split(":")
    if name == point and next(_counts[name]) == int(number):
        os.kill(os.getpid(), signal.Signals[f"SIG{how[0] if how else 'KILL'}"])
