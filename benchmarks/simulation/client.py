"""A client as a state machine: it claims, works, renews its lease and reports, and waits as the real one does.

The waits, patience and time-outs are those of `crunch_tasks.link`. Only what would move bytes or compute is sleep.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from benchmarks.simulation.calls import CLAIM, HEARTBEAT, STATUS, Answer, Call
from benchmarks.simulation.loop import Loop, Signal, Steps, Task
from benchmarks.simulation.plan import Plan
from benchmarks.simulation.server import Server
from crunch_tasks.contract import Stage, State
from crunch_tasks.link import backoff, sender
from crunch_tasks.link.client import LONGEST_WAIT_S, PATIENCE_S, TIMEOUT
from crunch_tasks.link.lease import CONFIRM_S
from flows.lanes import AGAIN_S

TIMEOUT_S = float(TIMEOUT.read or 0)
RESTART_S = 60.0
"""A client that gave up is started again after so long."""

MANIFEST = "ab" * 32


@dataclass
class Disk:
    """What a client finds again after it was killed: its request, and what it has recorded of its run."""

    request_id: str = ""
    recorded: set[tuple[Stage, State]] = field(default_factory=set)
    outbox: deque[Call] = field(default_factory=deque)


class Client:
    """`crunch loop --wait` on a machine that is killed now and then."""

    def __init__(self, loop: Loop, server: Server, plan: Plan, project: str, number: int) -> None:
        self.kills = 0
        self._loop = loop
        self._server = server
        self._plan = plan
        self._project = project
        self._name = f"{plan.seed}-node{number}"
        self._chance = random.Random(f"{plan.seed}-{number}")
        self._requests = 0
        self._disk = Disk()
        self._tasks: list[Task] = []
        loop.start(self._machine())

    def _machine(self) -> Steps:
        """Start, and be killed and started again."""
        yield self._chance.uniform(0.0, self._plan.start_s)
        while True:
            self._idle, self._news = self._loop.signal(), self._loop.signal()
            self._tasks = [self._loop.start(self._work()), self._loop.start(self._send())]
            yield self._chance.expovariate(1.0) * self._plan.dies_each_s
            self.kills += 1
            for task in self._tasks:
                task.kill()
            yield self._chance.expovariate(1.0) * self._plan.away_s
            if self._chance.random() < 0.5:
                self._disk = Disk()

    def _work(self) -> Steps:
        while True:
            # What an earlier run left is delivered before anything is claimed.
            yield self._delivered()
            answer = yield from self._claim()
            if answer.status == 204:
                self._disk.request_id = ""
                yield AGAIN_S
            elif answer.status == 409:
                self._disk = Disk()
            else:
                yield from self._process(answer.body)
                yield self._delivered()
                self._disk = Disk()

    def _claim(self) -> Steps:
        """Ask until there is an answer, `PATIENCE_S` seconds at a time."""
        if not self._disk.request_id:
            self._requests += 1
            self._disk = Disk(f"{self._name}-{self._requests}")
        body = {"project": self._project, "request_id": self._disk.request_id, "client": self._name}
        failures, began = 0, self._loop.now
        while True:
            answer: Answer | None = yield self._server.ask(Call(CLAIM, "claims/", body), TIMEOUT_S)
            if answer is not None:
                return answer
            wait_s = backoff.wait_s(failures, None, LONGEST_WAIT_S)
            failures += 1
            if self._loop.now + wait_s > began + PATIENCE_S:
                wait_s, failures, began = RESTART_S, 0, self._loop.now + RESTART_S
            yield wait_s

    def _process(self, claim: Mapping[str, Any]) -> Steps:
        lost = self._loop.signal()
        beat = self._loop.start(self._beat(claim, lost))
        self._tasks.append(beat)
        for stage in Stage:
            self._record(claim, stage, State.START)
            lasts_s = self._plan.lasts_s(stage, self._chance)
            fails_s = self._plan.fails_after_s(stage, self._loop.now, lasts_s)
            if stage == Stage.WORKFLOW and self._chance.random() < self._plan.fails:
                fails_s = lasts_s
            if (yield self._loop.within(lasts_s if fails_s is None else fails_s, lost)):
                break
            if stage == Stage.UPLOAD:
                # A last look before the commit, which a server that is away does not hold up.
                yield self._server.ask(_renewal(claim), CONFIRM_S)
            self._record(claim, stage, State.SUCCESS if fails_s is None else State.FAIL)
            if fails_s is not None:
                break
        yield self._loop.within(PATIENCE_S, self._delivered())
        beat.kill()
        self._tasks.remove(beat)

    def _beat(self, claim: Mapping[str, Any], lost: Signal) -> Steps:
        wait_s, failures = claim["heartbeat_s"], 0
        while not lost.fired:
            yield wait_s
            answer: Answer | None = yield self._server.ask(_renewal(claim), claim["heartbeat_s"])
            if answer is None:
                wait_s = min(claim["heartbeat_s"], backoff.wait_s(failures, None, claim["heartbeat_s"]))
                failures += 1
            elif answer.status == 200:
                wait_s, failures = claim["heartbeat_s"], 0
            else:
                lost.fire(True)

    def _record(self, claim: Mapping[str, Any], stage: Stage, state: State) -> None:
        """Write a status into the outbox, unless it was before the client died."""
        if (stage, state) in self._disk.recorded:
            return
        self._disk.recorded.add((stage, state))
        commits = (stage, state) == (Stage.UPLOAD, State.SUCCESS)
        body = {
            "dataset": claim["dataset"]["id"],
            "claim": claim["claim"],
            "fence": claim["fence"],
            "event_id": f"{claim['claim']}-{stage}-{state}",
            "stage": int(stage),
            "state": int(state),
            "manifest_sha256": MANIFEST if commits else "",
        }
        self._disk.outbox.append(Call(STATUS, "statuses/", body))
        self._idle = self._loop.signal() if self._idle.fired else self._idle
        self._news.fire()

    def _delivered(self) -> Signal:
        """Fires when the outbox is empty."""
        if not self._disk.outbox:
            self._idle.fire(True)
        return self._idle

    def _send(self) -> Steps:
        failures = 0
        while True:
            outbox = self._disk.outbox
            if not outbox:
                self._news = self._loop.signal()
                yield self._news
                continue
            answer: Answer | None = yield self._server.ask(outbox[0], TIMEOUT_S)
            if answer is None:
                yield backoff.wait_s(failures, None, sender.LONGEST_WAIT_S)
                failures += 1
                continue
            failures = 0
            outbox.popleft()
            if not outbox:
                self._idle.fire(True)


def _renewal(claim: Mapping[str, Any]) -> Call:
    return Call(HEARTBEAT, f"claims/{claim['claim']}/heartbeat/", {"fence": claim["fence"]})
