"""What earlier commands in a directory could not tell the server: delivered now, and what that commits is finished."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from crunch_tasks.contract import DatasetState, Stage, State
from crunch_tasks.errors import CrunchError, NothingFits, Refused, StorageError
from crunch_tasks.files import publication
from crunch_tasks.files.storage import Storage
from crunch_tasks.files.workspace import Workspace, held
from crunch_tasks.link.claims import Claims, HeldRequest
from crunch_tasks.link.client import CrunchClient
from crunch_tasks.link.lease import Lease
from crunch_tasks.link.outbox import Outbox, Place, Recorded, outboxes
from crunch_tasks.link.sender import deliver, deliver_all

Say = Callable[[str], None]


class Leftovers:
    """The statuses, and the claims of dead commands, in one directory; `say` is told in sentences what became of them.

    Raises ServerError when the server does not answer, Unauthorized when it refuses the token; what is not delivered
    is kept.
    """

    def __init__(
        self, directory: Path, client: CrunchClient, claims: Claims, storage: Callable[[], Storage], say: Say
    ) -> None:
        self.directory = directory
        self.client = client
        self.claims = claims
        self.storage = storage
        self.say = say

    def deliver(self) -> list[Recorded]:
        """Deliver the statuses that wait, in order, but for those of live runs, which do so themselves.

        Then the modified files of what is committed, and was not promoted before its client died, get their own names.
        Returns each status with what the server said.
        """
        delivered = deliver_all(self.directory, self.client, held)
        self._tell(delivered)
        for request in self.claims.leftovers():
            with request:
                self.settle(request)
        return delivered

    def give_unanswered_back(self) -> None:
        """Release what dead commands asked for without ever having the answer, where it was granted: nobody began it.

        Each is asked for once more, as only that tells. One that the server does not let go now is left to the next
        command here.
        """
        for request in self.claims.leftovers():
            with request:
                lease = self._answer_to(request) if request.granted is None else None
                if lease is not None and lease.release("its client never had the answer to its claim"):
                    self.say(f"{lease.claim.slug} is given back: an earlier command here never heard that it had it.")

    def _answer_to(self, request: HeldRequest) -> Lease | None:
        with suppress(Refused, NothingFits):
            return request.send(self.client)
        return None

    def settle(self, request: HeldRequest) -> bool:
        """Whether nothing is left to do for the claim of a dead command, once its last word is delivered.

        What it committed is promoted then. A claim that is not settled may be gone on with.
        """
        if request.granted is None:
            return False
        slug, fence = request.granted.slug, request.granted.fence
        workspace = Workspace(self.directory, slug)
        outbox = Outbox(workspace.state)
        with held(workspace.state) as holder:
            if holder is not None:
                return False
            # Another client may finish the dataset elsewhere: nobody may ever work in this workspace again.
            workspace.remove_torn()
            self._tell([deliver(self.client, outbox, recorded) for recorded in outbox.pending()])
            last = outbox.find(fence, Stage.UPLOAD, State.SUCCESS)
            if last is None or last.place is not Place.SENT or not last.effective:
                remove_overtaken(self.client, self.storage, slug, fence)
                return self._gave_back(request)
            try:
                self._promote(slug, fence, last.event.manifest_sha256)
            except StorageError as problem:
                # It is committed all the same. Whoever reads the dataset next moves the rest to its place first.
                self.say(f"The modified files of {slug} are not at their own names yet: {problem}")
                return True
        request.forget()
        return True

    def _promote(self, slug: str, fence: int, manifest_sha256: str) -> None:
        """Finish a commit, unless somebody else works on the dataset, or did since: they have finished it first."""
        try:
            dataset = self.client.get_dataset(slug)
        except Refused:
            return
        if (dataset["state"], dataset["manifest_fence"]) == (DatasetState.COMPLETED, fence):
            publication.promote(self.storage(), f"{dataset['base_file_path']}/", fence, manifest_sha256)

    def _gave_back(self, request: HeldRequest) -> bool:
        """Whether the claim was to be released, which is done then."""
        granted = request.granted
        if granted is None or not granted.is_given_back:
            return False
        try:
            self.client.release(granted.claim, granted.fence, "its client was stopped while the server was away")
        except Refused as error:
            self.say(f"{granted.slug}, which an earlier command here left, is not its own any more: {error}")
        else:
            self.say(f"{granted.slug} is given back, as an earlier command here could not tell the server.")
        request.forget()
        return True

    def _tell(self, delivered: list[Recorded]) -> None:
        for recorded in delivered:
            stage, state = recorded.event.stage.name.capitalize(), recorded.event.state.name.capitalize()
            what = f"{stage} {state} of an earlier run of {run_of(recorded)}"
            refused = f"The server refused {what}: {recorded.reason}"
            self.say(refused if recorded.reason else f"Delivered {what}.")


def remove_overtaken(client: CrunchClient, storage: Callable[[], Storage], slug: str, fence: int) -> None:
    """Remove what the attempt `fence` left in the storage if a later one has committed; otherwise that one will."""
    # What cannot be removed now takes room, and nobody reads it.
    with suppress(CrunchError):
        dataset = client.get_dataset(slug)
        if fence < int(dataset["manifest_fence"] or 0):
            publication.remove_overtaken(storage(), f"{dataset['base_file_path']}/", fence)


def run_of(recorded: Recorded) -> str:
    """The slug of the dataset whose run recorded this: it is where the state folder lies."""
    return f"{recorded.folder.parent.name}:{recorded.folder.name}"


def waiting(directory: Path) -> list[Recorded]:
    """What is not delivered yet, a live run's included."""
    return [recorded for outbox in outboxes(directory) for recorded in outbox.pending()]
