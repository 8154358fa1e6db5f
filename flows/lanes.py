"""Several datasets of a loop at once: while some compute, the next ones are fetched and the last ones sent back.

Each dataset has a thread, in which its flow run goes from Setup to Upload; only the workflow waits for its turn. So
there are at most `workers` computing, `prefetch` more that are fetched or wait for their turn, and `workers` being sent
back: a slow storage holds up the claims, and never fills the disk with what waits. Without `prefetch` a worker takes
one dataset after the other, from its first byte to its last.
"""

from __future__ import annotations

import contextlib
import contextvars
import signal
import threading
import time
from collections.abc import Iterator
from types import FrameType

from crunch_tasks.errors import CrunchError, NothingFits, WorkspaceError
from crunch_tasks.link.lease import Lease
from crunch_tasks.run import Result
from crunch_tasks.settings import LoopOptions, RunOptions
from crunch_tasks.stopping import LAST_WORD_S, seconds_left
from flows.budget import DiskBudget
from flows.dataset import process
from flows.kept_client import Contexts
from flows.lane import LOOK_S, Lane
from flows.report import Outcome
from flows.session import Session

MOST_UNFIT = 3
"""So many datasets for which this machine has no room, or no time, end its loop, as it holds them until its end."""

AGAIN_S = 5.0
MAX_AGAIN_S = 30.0
"""Seconds until a dataset is asked for again where there was none to be had for now; while idle it grows to the second.

Ten thousand loops that wait for the end of a project would else ask the server more often than all that work."""


class Lanes:
    """Processes the datasets that a session claims (of `project`), several at once.

    The first Ctrl-C ends the claims and gives back what does not compute yet; what computes comes to its end. The
    second one, and SIGTERM, give back everything now. `wait`: go on while other clients have datasets in hand.
    """

    def __init__(self, session: Session, options: RunOptions, project: str, loop: LoopOptions) -> None:
        self.session = session
        self.options = options.parted(loop.workers)
        self.project = project
        self.workers = loop.workers
        self.prefetch = loop.prefetch
        self.wait = loop.wait
        self.budget = None if loop.max_disk is None else DiskBudget(session.settings, loop.max_disk)
        self.outcomes: list[Outcome] = []
        self._lanes: list[Lane] = []
        self._contexts = Contexts()
        self._changed = threading.Condition()
        self._error: BaseException | None = None
        self._ends = False
        self._told_to_end = ""
        self.interrupted = False
        self._undelivered = 0
        self._unfit = ""
        self._ask_again = 0.0
        self._pause = AGAIN_S

    def run(self) -> None:
        """Process until none is left; `outcomes` tells how each run ended. Raises what kept the loop from going on."""
        stop: BaseException | None = None
        with self._first_interrupt_is_gentle():
            try:
                while self._goes_on():
                    with self._changed:
                        self._changed.wait(LOOK_S)
            except BaseException as error:
                stop = error
                self._stop("stopped by a signal", all_of_them=True)
                raise
            finally:
                self._join(stop)
                self._contexts.close()
        if self._error is not None:
            raise self._error

    def _goes_on(self) -> bool:
        """Start what may be started now; False when nothing is under way and nothing is to be had."""
        undelivered = sum(outcome.result is Result.UNDELIVERED for outcome in self.outcomes)
        if undelivered > self._undelivered:
            self._undelivered = undelivered
            self.session.finish_leftovers()
        without_room = [outcome for outcome in self.outcomes if outcome.result is Result.NO_ROOM]
        if len(without_room) >= MOST_UNFIT:
            told = f"{len(without_room)} datasets do not fit on this machine, so this loop ends."
            self._end_with(WorkspaceError(f"{told} {without_room[-1].note}"))
        if not self._ends and sum(outcome.result is Result.NO_TIME for outcome in self.outcomes) >= MOST_UNFIT:
            self.session.report.say(f"There is no time for {MOST_UNFIT} datasets, so this loop ends.")
            self._ends = True
        nothing_left = False
        while not self._ends and self._may_claim() and time.monotonic() >= self._ask_again:
            ahead = self._before_upload() >= self.workers
            lease = self._claim(ahead=ahead)
            if lease is None:
                self._ask_again = time.monotonic() + self._pause
                self._pause = AGAIN_S if self._lanes else min(2 * self._pause, MAX_AGAIN_S)
                nothing_left = not ahead
                break
            self._pause = AGAIN_S
            self._start(lease)
        if self._lanes:
            return True
        if self._ends:
            return False
        if nothing_left:
            return self.wait and self.session.others_work(self.project)
        return True

    def _claim(self, *, ahead: bool) -> Lease | None:
        """The next lease; None when nothing waits, or nothing fits any more. Raises NothingFits if nothing ever did.

        What keeps the loop from claiming any more, such as a disk that is low, ends it when what is in hand has ended.
        One that was told to end wants none, and fails by nothing that kept it from one.
        """
        try:
            return self.session.claim(
                project=self.project, cores=self.options.processors, share=self.workers, ahead=ahead
            )
        except NothingFits as error:
            if not self.outcomes and not self._lanes:
                raise
            if str(error) != self._unfit:
                self._unfit = str(error)
                self.session.report.say(self._unfit)
            return None
        except CrunchError as error:
            if self._ends:
                self.session.report.say(str(error))
            else:
                self._end_with(error)
            return None

    def _end_with(self, error: BaseException) -> None:
        """Claim no more, and raise the error, if it is the first, when what is in hand has ended."""
        with self._changed:
            self._error = self._error or error
            self._ends = True

    def _may_claim(self) -> bool:
        """Raises WorkspaceError when the disk budget will not allow it any more."""
        if self.budget is not None:
            with self._changed:
                self.budget.check()
                if self.budget.left <= 0 or any(lane.wants_room for lane in self._lanes):
                    return False
        most = 2 * self.workers + self.prefetch if self.prefetch else self.workers
        return self._before_upload() < self.workers + self.prefetch and len(self._lanes) < most

    def _before_upload(self) -> int:
        return sum(lane.is_ahead or lane.computes for lane in self._lanes)

    def _start(self, lease: Lease) -> None:
        lane = Lane(lease)
        with self._changed:
            before = [other for other in self._lanes if other.slug == lease.claim.slug]
            self._lanes.append(lane)
            if self._told_to_end:
                # While the server gave it.
                lease.interrupt(self._told_to_end)
        context = self._contexts.take()
        lane.thread = threading.Thread(
            target=self._thread, args=(context, lane, before), name=f"run of {lane.slug}", daemon=True
        )
        lane.thread.start()

    def _thread(self, context: contextvars.Context, lane: Lane, before: list[Lane]) -> None:
        context.run(self._process, lane, before)
        self._contexts.give_back(context)

    def _process(self, lane: Lane, before: list[Lane]) -> None:
        for other in before:
            # Taken away from it and given to us again: its workspace is to be let go first.
            other.lease.overtaken()
            while other.is_alive:
                other.join()
        try:
            outcome = process(
                self.session,
                lane.lease,
                self.options,
                lambda: self._turn(lane),
                lambda size: self._room(lane, size),
                made=lane.has,
            )
            with self._changed:
                self.outcomes.append(outcome)
        except BaseException as error:  # noqa: BLE001 - it is raised again in the main thread
            self._end_with(error)
        finally:
            with self._changed:
                self._lanes.remove(lane)
                if self.budget is not None:
                    self.budget.end(lane.slug)
                self._ask_again = 0.0
                self._changed.notify_all()

    def _room(self, lane: Lane, size: int) -> None:
        """Wait until the disk budget allows `size` bytes more, the dataset that was claimed first before the others."""
        if self.budget is None:
            return
        with self._changed:
            lane.wants_room = True
            is_said = False
            try:
                while True:
                    lane.lease.check()
                    first = next(other for other in self._lanes if other.wants_room)
                    if first is lane and self.budget.take(lane.slug, size):
                        return
                    if not is_said:
                        self.session.report.say(f"{lane.slug} waits until others leave room for its {size} bytes.")
                        is_said = True
                    self._changed.wait(LOOK_S)
            finally:
                lane.wants_room = False
                self._changed.notify_all()

    @contextlib.contextmanager
    def _turn(self, lane: Lane) -> Iterator[None]:
        """Wait until one of the workers is free, the dataset that was claimed first before the others."""
        with self._changed:
            lane.is_ready = True
            while True:
                lane.lease.check()
                waiting = [other for other in self._lanes if other.is_ready and other.is_ahead]
                free = self.workers - sum(other.computes for other in self._lanes)
                if lane in waiting[:free]:
                    break
                self._changed.wait(LOOK_S)
            lane.computes = True
            self._changed.notify_all()
        try:
            yield
        finally:
            with self._changed:
                lane.computes, lane.has_computed = False, True
                if self.budget is not None:
                    self.budget.look(lane.slug)
                self._changed.notify_all()

    @contextlib.contextmanager
    def _first_interrupt_is_gentle(self) -> Iterator[None]:
        """Only where Ctrl-C is listened to at all, and in the main thread, which alone gets signals."""
        before = signal.getsignal(signal.SIGINT)
        if threading.current_thread() is not threading.main_thread() or not callable(before):
            yield
            return

        def gently(_number: int, _frame: FrameType | None) -> None:
            self.interrupted = True
            signal.signal(signal.SIGINT, before)
            # In a thread: a handler must not wait for the lock that it may have interrupted the holder of.
            threading.Thread(target=self._drain, name="drain", daemon=True).start()

        signal.signal(signal.SIGINT, gently)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, before)

    def _drain(self) -> None:
        self.session.report.say("What computes comes to its end, the rest is given back. Ctrl-C again stops now.")
        self._stop("its loop was told to end", all_of_them=False)

    def _stop(self, message: str, *, all_of_them: bool) -> None:
        with self._changed:
            self._ends = True
            self._told_to_end = message
            self.session.client.claim_no_more()
            for lane in self._lanes:
                if all_of_them or lane.is_ahead:
                    lane.lease.interrupt(message)
            self._changed.notify_all()

    def _join(self, stop: BaseException | None) -> None:
        """Wait until all have ended. A stopped process has seconds: what hangs then, in Prefect's server that does not
        answer, has its last words said from here.
        """
        lanes = [*self._lanes]
        for lane in lanes:
            while lane.is_alive and (stop is None or seconds_left() > LAST_WORD_S + LOOK_S):
                lane.join()
        speakers = [
            threading.Thread(target=lane.run.last_words, args=(stop,), daemon=True)
            for lane in lanes
            if stop is not None and lane.is_alive and lane.run is not None
        ]
        for speaker in speakers:
            speaker.start()
        for speaker in speakers:
            speaker.join(LAST_WORD_S)
