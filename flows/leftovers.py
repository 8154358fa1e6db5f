"""What earlier commands in a directory could not tell the server: delivered now, and what that commits is finished."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from crunch_tasks.contract import Stage, State
from crunch_tasks.errors import StorageError, WorkspaceError
from crunch_tasks.files import publication
from crunch_tasks.files.storage import Storage
from crunch_tasks.files.workspace import Workspace, bound_to, held
from crunch_tasks.link.claims import Claims, HeldRequest
from crunch_tasks.link.client import CrunchClient
from crunch_tasks.link.outbox import Outbox, Place, Recorded, outboxes
from crunch_tasks.link.sender import deliver_all

Say = Callable[[str], None]


def deliver(
    directory: Path, client: CrunchClient, claims: Claims, storage: Callable[[], Storage], say: Say
) -> list[Recorded]:
    """Deliver the statuses that wait in `directory`, in order, but for those of live runs, which do so themselves.

    Then the modified files of what is committed, and was not promoted before its client died, get their own names.
    Returns each status with what the server said, and says it. Raises ServerError when the server does not answer,
    Unauthorized when it refuses the token; what is not delivered is kept.
    """
    delivered = deliver_all(directory, client, held)
    for recorded in delivered:
        event = recorded.event
        what = (
            f"{event.stage.name.capitalize()} {event.state.name.capitalize()} of an earlier run of {run_of(recorded)}"
        )
        say(f"The server refused {what}: {recorded.reason}" if recorded.reason else f"Delivered {what}.")
    for request in claims.leftovers():
        with request:
            if request.granted is not None:
                _finish_commit(directory, request, storage, say)
    return delivered


def run_of(recorded: Recorded) -> str:
    """The slug of the dataset whose run recorded this: it is where the state folder lies."""
    return f"{recorded.folder.parent.name}:{recorded.folder.name}"


def waiting(directory: Path) -> list[Recorded]:
    """What is not delivered yet, a live run's included."""
    return [recorded for outbox in outboxes(directory) for recorded in outbox.pending()]


def _finish_commit(directory: Path, request: HeldRequest, storage: Callable[[], Storage], say: Say) -> None:
    """Promote what a dead command's claim committed, if it did; then nothing is left to do for that claim."""
    slug, fence = request.granted or ("", 0)
    try:
        state = Workspace(directory, slug).state
        last = Outbox(state).find(fence, Stage.UPLOAD, State.SUCCESS)
        if last is None or last.place is not Place.SENT or not last.effective:
            return
        publication.promote(storage(), f"{bound_to(state)['base_path']}/", fence, last.event.manifest_sha256)
    except (StorageError, WorkspaceError, FileNotFoundError) as problem:
        # It is committed all the same. Whoever reads the dataset next moves the rest to its place first.
        say(f"The modified files of {slug} are not at their own names yet: {problem}")
        return
    request.forget()
