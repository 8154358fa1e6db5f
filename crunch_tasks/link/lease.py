"""The lease on a dataset: renewed by a thread, its time counted on this machine from when it was asked for.

A server that is away is not a lost lease: past its expiry the lease stays its holder's until someone else claims the
dataset, and only the server's 409 says so. But nothing is written to the storage with too little lease left.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from types import TracebackType
from typing import Any, Protocol, Self

from crunch_tasks.contract import Claim
from crunch_tasks.errors import (
    Cancelled,
    CrunchError,
    LeaseLost,
    Refused,
    ServerError,
    ServerUnavailable,
    Stopped,
    Unauthorized,
    UsageError,
)
from crunch_tasks.link import backoff
from crunch_tasks.link.client import CrunchClient

LAST_BEAT_S = 1.0
LARGEST_SHARE = 0.9
"""Of a lease, what one write's time-out may take: the rest is for the renewal's way here."""
CONFIRM_S = 10.0
"""How long a run that is about to commit waits for a renewal, in seconds; a server that is away does not stop it."""
FRESH_S = 1.0
"""How long before that the renewal may have been asked for, in seconds."""

RELEASE_PATIENCE_S = 5.0
"""How long a release may take: whoever is stopped by a batch system has seconds."""

LOST = (403, 404, 409)
"""What the server answers to a renewal of a lease that is gone."""

log = logging.getLogger("crunch.lease")


def boot_clock() -> float:
    """Seconds on a clock that nobody sets and that runs while the machine sleeps."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


class Held(Protocol):
    """The claim's request on the disk (`claims.HeldRequest`)."""

    def forget(self) -> None: ...
    def leave(self) -> None: ...
    def note_given_back(self) -> None: ...


class Lease:
    """The right to process one dataset; `with lease:` renews it in a thread of its own.

    `sent_at` is the `boot_clock` from before the claim's request was sent; `was_begun` tells that a command that died
    had the same claim.
    """

    def __init__(
        self, client: CrunchClient, claim: Claim, *, sent_at: float, held: Held | None = None, was_begun: bool = False
    ) -> None:
        self.client = client
        self.claim = claim
        self.was_begun = was_begun
        self._held = held
        self._ttl_s = claim.ttl_s
        self._expires = sent_at + claim.ttl_s
        self._progress: Mapping[str, Any] | None = None
        self._output: Callable[[], str] | None = None
        self._told_output = ""
        self._ended: CrunchError | None = None
        self._refused_token: Unauthorized | None = None
        self._stop = threading.Event()
        self._beat_wanted = threading.Event()
        self._changed = threading.Condition()
        self._asked_at = float("-inf")
        self._renewed_at = sent_at
        self._thread = threading.Thread(target=self._run, name=f"lease of {claim.slug}", daemon=True)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None and not isinstance(error, Exception) and not self._stop.is_set():
            # Stopped from outside, before anybody else took care of it.
            self.release(f"stopped by {type(error).__name__}")
        self.stop()

    def start(self) -> None:
        """Begin to renew."""
        self._thread.start()

    def remaining_s(self) -> float:
        """Seconds of lease left, by this machine's clock; negative when it has expired."""
        return self._expires - boot_clock()

    def check(self) -> None:
        """Raises LeaseLost when another claim has the dataset, Cancelled when a person ended the run, Stopped when the
        command is told to end.

        Also Unauthorized, when the server has refused the token until the lease expired.
        """
        if self._ended is not None:
            # A new one each time: threads that raise one and the same exception write into its traceback together.
            raise type(self._ended)(str(self._ended))
        if self._refused_token is not None and self.remaining_s() < 0:
            raise self._refused_token

    def may_write(self, timeout_s: float) -> None:
        """Wait until at least `timeout_s` seconds of lease are left, so that a write of that time-out is covered.

        Raises what `check` raises, ServerUnavailable when no renewal came within the client's patience, and UsageError
        when even a fresh lease would not cover it.
        """
        if timeout_s > LARGEST_SHARE * self._ttl_s:
            raise UsageError(
                f"The lease of {self._ttl_s:g} s is too short for a transfer that may take {timeout_s:g} s. "
                "Set a longer lease_seconds in the project."
            )
        deadline = time.monotonic() + max(self.client.patience_s, self.claim.heartbeat_s)
        with self._changed:
            while True:
                self.check()
                if self.remaining_s() >= timeout_s:
                    return
                left = deadline - time.monotonic()
                if left <= 0:
                    raise ServerUnavailable(
                        f"The server did not renew the lease on {self.claim.slug}, so nothing more can be written."
                    )
                self._beat_wanted.set()
                # The clock may have jumped with a suspended machine, so look again now and then.
                self._changed.wait(min(left, 1.0))

    def progress(self, progress: Mapping[str, Any]) -> None:
        """What the next renewal tells of the run, such as `{"done": 3, "total": 10}`."""
        self._progress = dict(progress)

    @contextlib.contextmanager
    def showing(self, output: Callable[[], str]) -> Iterator[None]:
        """While in this context, each renewal tells what `output` returns (`cap_log_tail`), if it is news.

        What it returns last is still told after it. It must not raise: the renewal would fail.
        """
        self._output = output
        try:
            yield
        finally:
            last = output()
            self._output = lambda: last

    def cancel(self, message: str) -> None:
        """A person wants the run to end: `check` raises Cancelled with `message` from now on.

        The lease is still renewed, so that the Fail that says so counts.
        """
        self._end(Cancelled(message))

    def overtaken(self) -> None:
        """The server gave the dataset to another claim: `check` raises LeaseLost from now on."""
        self._end(LeaseLost(f"The lease on {self.claim.slug} was lost to another claim. Nothing was published."))

    def interrupt(self, message: str) -> None:
        """The command is told to end: `check` raises Stopped from now on, and the dataset is to be given back."""
        self._end(Stopped(message))

    def renew(self) -> None:
        """Have the lease renewed now, without waiting for it."""
        with self._changed:
            self._asked_at = boot_clock()
            self._beat_wanted.set()

    def confirm(self) -> None:
        """Wait for the renewal that `renew` asked for, CONFIRM_S seconds at most; then raises what `check` raises.

        For a last look before the commit: a cancel that came since the last heartbeat is noticed. What was asked for
        more than FRESH_S ago is asked for again.
        """
        with self._changed:
            deadline = time.monotonic() + CONFIRM_S
            if self._asked_at < boot_clock() - FRESH_S:
                self.renew()
            while self._renewed_at < self._asked_at and self._ended is None:
                if (left := deadline - time.monotonic()) <= 0:
                    break
                self._changed.wait(left)
        self.check()

    def release(self, reason: str) -> bool:
        """Give the dataset back unprocessed, no attempt charged. False when the server could not be told.

        Then the claim's request stays on the disk, and says that the next command here is to release it.
        """
        self._stop_thread()
        try:
            self.client.release(self.claim.claim, self.claim.fence, reason, patience_s=RELEASE_PATIENCE_S)
        except Refused as error:
            log.info("%s could not be released: %s", self.claim.slug, error)
        except ServerError as error:
            log.warning("%s is not released: %s", self.claim.slug, error)
            if self._held is not None:
                self._held.note_given_back()
            self.stop()
            return False
        self.stop(ended=True)
        return True

    def stop(self, *, ended: bool = False) -> None:
        """End the renewals. `ended` says that the claim is over too (completed, failed, released), for good."""
        self._stop_thread()
        if self._held is not None:
            if ended:
                self._held.forget()
            else:
                self._held.leave()

    def _stop_thread(self) -> None:
        self._stop.set()
        self._beat_wanted.set()
        if self._thread.is_alive():
            # A renewal on its way may take long to time out; its answer would change nothing any more.
            self._thread.join(LAST_BEAT_S)

    def _run(self) -> None:
        failures = 0
        # The claim itself was the first renewal, some time ago.
        wait_s = max(0.0, self.claim.heartbeat_s - (self._ttl_s - self.remaining_s()))
        while not self._stop.is_set():
            if failures:
                # Not to be cut short by a waiting `may_write`: it must not make this a busy loop.
                self._stop.wait(wait_s)
            else:
                self._beat_wanted.wait(wait_s)
            self._beat_wanted.clear()
            if self._stop.is_set():
                return
            try:
                self._beat()
                failures, wait_s = 0, self.claim.heartbeat_s
            except LeaseLost as error:
                self._end(error)
                return
            except Exception as error:  # noqa: BLE001 - whatever it is, the lease must be asked for again
                log.info("The lease on %s was not renewed: %s", self.claim.slug, error)
                wait_s = min(self.claim.heartbeat_s, backoff.wait_s(failures, error, self.claim.heartbeat_s))
                failures += 1

    def _beat(self) -> None:
        """One renewal. Raises LeaseLost, or whatever kept the server from answering."""
        output = self._output() if self._output is not None else ""
        news = output if output != self._told_output else None
        sent_at = boot_clock()
        progress = self._progress
        try:
            answer = self.client.heartbeat(
                self.claim.claim, self.claim.fence, progress, news, timeout_s=self.claim.heartbeat_s
            )
        except Unauthorized as error:
            self._refused_token = error
            raise
        except Refused as error:
            if error.status not in LOST:
                # It is what we sent that it does not like, and that can only be the progress or the output.
                self._progress = self._output = None
                raise
            raise LeaseLost(f"The lease on {self.claim.slug} was lost: {error} Nothing was published.") from error
        self._told_output = output
        with self._changed:
            self._refused_token = None
            self._ttl_s = float(answer["ttl_s"])
            self._expires = sent_at + self._ttl_s
            self._changed.notify_all()
        if answer.get("cancel"):
            who = answer.get("cancelled_by")
            self.cancel(f"Cancelled by {who}." if who else "Cancelled on the server.")
        with self._changed:
            self._renewed_at = sent_at
            self._changed.notify_all()

    def _end(self, error: CrunchError) -> None:
        with self._changed:
            if not isinstance(self._ended, LeaseLost):
                self._ended = error
            self._changed.notify_all()
