"""Claims that survive a crash: each request is on the disk, and locked by its process, before it is sent.

DIRECTORY/.state/claims/REQUEST_ID.json    its lock held: a live process works on it
                                           its lock free: that process died; whoever finds it may go on with it

Lines of JSON: the request, and once it is granted the dataset, fence and claim, so that what its commit left to do can
be done after the claim has ended. A last line says that the claim is to be released.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import socket
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

from crunch_tasks.contract import ClaimRequest
from crunch_tasks.crash import Point, reached
from crunch_tasks.durable import STATE_FOLDER, make_folder, sync_folder
from crunch_tasks.errors import CrunchError, NothingFits, Refused, WorkspaceError
from crunch_tasks.link.client import CrunchClient
from crunch_tasks.link.lease import RELEASE_PATIENCE_S, Lease, boot_clock
from crunch_tasks.needs import Resources

TORN_S = 3600
"""A request that is not whole after so many seconds was never sent: the process that wrote it was killed."""


class Granted(NamedTuple):
    """What a request led to; `is_given_back` when its client was told to stop, and could not tell the server."""

    slug: str
    fence: int
    claim: int
    is_given_back: bool = False


class HeldRequest:
    """A claim request on the disk, its lock held by this process until `forget`, `leave` or the process's end."""

    def __init__(self, path: Path, fd: int, request: ClaimRequest, granted: Granted | None = None) -> None:
        self.path = path
        self.request = request
        self.granted = granted
        self._fd = fd

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.leave()

    def send(self, client: CrunchClient) -> Lease | None:
        """The lease that the server gives for it, the same one again after a crash; None when there is none.

        A refused request is forgotten: Refused with code `claim_ended` says of a leftover that nothing is left to do.
        Raises NothingFits when datasets wait, but ask for more than was offered.
        When the server does not answer (ServerUnavailable) the request stays, for it may have been granted.
        """
        sent_at = boot_clock()
        try:
            claim = client.claim(self.request)
            reached(Point.CLAIM_ANSWERED)
        except Refused as error:
            self.forget()
            if error.code == "unfit":
                raise NothingFits(str(error)) from None
            raise
        except Exception:
            raise
        except BaseException:
            self._give_back(client)
            raise
        if claim is None:
            self.forget()
            return None
        was_begun = self.granted is not None
        self._note(Granted(claim.slug, claim.fence, claim.claim))
        return Lease(client, claim, sent_at=sent_at, held=self, was_begun=was_begun)

    def note_given_back(self) -> None:
        """The claim is to be released by whoever finds its request. Raises WorkspaceError."""
        if self.granted is not None:
            self._note(self.granted._replace(is_given_back=True))

    def _note(self, granted: Granted) -> None:
        """Write down what was granted. Raises WorkspaceError."""
        if granted == self.granted:
            return
        self.granted = granted
        try:
            # In its place, as the lock is on this very file; a line that is torn by a crash is as none.
            os.write(self._fd, json.dumps(granted).encode() + b"\n")
            os.fsync(self._fd)
        except OSError as error:
            raise WorkspaceError(f"{self.path} cannot be written: {error.strerror}.") from error

    def _give_back(self, client: CrunchClient) -> None:
        """Stopped from outside while the claim was asked for: it may have been granted."""
        with contextlib.suppress(CrunchError):
            claim = client.claim(self.request, patience_s=RELEASE_PATIENCE_S)
            if claim is not None:
                client.release(claim.claim, claim.fence, "stopped while it was claimed", patience_s=RELEASE_PATIENCE_S)
            self.forget()

    def forget(self) -> None:
        """The claim has ended: remove its request."""
        reached(Point.CLAIM_OVER)
        self.path.unlink(missing_ok=True)
        self.leave()

    def leave(self) -> None:
        """Let go of the request's lock, so that a later command can go on with its claim."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


class Claims:
    """The claim requests to the server at `url` of the clients that work in `directory`."""

    def __init__(self, directory: Path, url: str) -> None:
        self.folder = directory / STATE_FOLDER / "claims"
        self.url = url

    def new(
        self,
        *,
        project: str = "",
        dataset: str = "",
        flow_run_id: str = "",
        flow_run_url: str = "",
        ahead: bool = False,
        capabilities: Resources | None = None,
        seconds: float | None = None,
        only_waiting: bool = False,
    ) -> HeldRequest:
        """A request for any dataset that fits the `capabilities` of this machine and the `seconds` that it has left,
        one of `project`, or `dataset` (slugs), which need not fit where neither is told, and may be decided but for
        `only_waiting`. Raises WorkspaceError.
        """
        request = ClaimRequest(
            request_id=str(uuid.uuid4()),
            client=f"{socket.gethostname()}:{os.getpid()}",
            project=project,
            dataset=dataset,
            flow_run_id=flow_run_id,
            flow_run_url=flow_run_url,
            ahead=ahead,
            capabilities=capabilities.to_wire() if capabilities else None,
            seconds=seconds,
            only_waiting=only_waiting,
        )
        make_folder(self.folder)
        path = self.folder / f"{request.request_id}.json"
        temporary = path.with_suffix(".new")
        try:
            fd = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
            # The lock is on the file, not on its name: it is held when the name appears.
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.write(fd, json.dumps({"url": self.url, "request": request.to_wire()}).encode() + b"\n")
            os.fsync(fd)
            temporary.replace(path)
            sync_folder(self.folder)
            reached(Point.CLAIM_WRITTEN)
        except OSError as error:
            raise WorkspaceError(f"{path} cannot be written: {error.strerror}. Choose another --directory.") from error
        return HeldRequest(path, fd, request)

    def leftovers(self) -> Iterator[HeldRequest]:
        """The requests of processes that are gone, oldest first; each is locked when it is given out."""
        for torn in self.folder.glob("*.new"):
            if time.time() - _changed_at(torn) > TORN_S:
                torn.unlink(missing_ok=True)
        for path in sorted(self.folder.glob("*.json"), key=_changed_at):
            held = _take(path, self.url)
            if held is not None:
                yield held


def _granted(rest: bytes) -> Granted | None:
    try:
        slug, fence, claim, is_given_back = json.loads(rest.splitlines()[-1])
        return Granted(str(slug), int(fence), int(claim), bool(is_given_back))
    except (IndexError, ValueError, TypeError):
        return None


def _changed_at(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0


def _take(path: Path, url: str) -> HeldRequest | None:
    """The request at `path`, locked; None when another process has it, or it is over, damaged or another server's."""
    try:
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.stat(path).st_ino == os.fstat(fd).st_ino:  # noqa: PTH116
            first, _, rest = os.read(fd, 65536).partition(b"\n")
            body = json.loads(first)
            if body["url"] == url:
                return HeldRequest(path, fd, ClaimRequest(**body["request"]), _granted(rest))
    except (OSError, ValueError, TypeError, KeyError):
        pass
    os.close(fd)
    return None
