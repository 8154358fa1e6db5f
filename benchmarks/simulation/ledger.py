"""Keeps an account of its own of who may process what, apart from the server's, and stops at the first wrong answer.

It knows of what was really asked and answered only: a drawn heartbeat keeps no lease.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from benchmarks.simulation.calls import CLAIM, HEARTBEAT, STATUS, Answer, Call, Cost, Site


class Broken(AssertionError):
    """The server broke a promise."""


@dataclass
class Right:
    """The right to process a dataset that an answer gave, until the second `expires` of the simulation."""

    dataset: int
    claim: int
    fence: int
    ttl_s: float
    expires: float
    ended: bool = False


class Ledger:
    """Holds the server to it: one live fence for each dataset, fences that only grow, each completed once."""

    def __init__(self) -> None:
        self.rights: dict[int, Right] = {}
        self.by_claim: dict[int, Right] = {}
        self.by_request: dict[str, Right] = {}
        self.completed: set[int] = set()
        self.counts: Counter[str] = Counter()

    def note(self, call: Call, answer: Answer, now: float) -> None:
        """Raises Broken when the answer must not have been given."""
        if call.kind == CLAIM:
            self._claimed(call, answer, now)
        elif call.kind == HEARTBEAT:
            self._renewed(call, answer, now)
        elif call.kind == STATUS:
            self._told(call, answer)

    def check_finished(self, completed: int, total: int) -> None:
        """Raises Broken unless all `total` datasets are completed, by the server's account and by this one."""
        if not completed == len(self.completed) == total:
            message = f"Of {total} datasets {completed} are completed, and {len(self.completed)} commits were accepted."
            raise Broken(message)

    def _claimed(self, call: Call, answer: Answer, now: float) -> None:
        request, told = call.body["request_id"], answer.body
        if answer.status == 409 and request in self.by_request:
            self.by_request[request].ended = True
        if answer.status not in (200, 201):
            return
        dataset = int(told["dataset"]["id"])
        before = self.rights.get(dataset)
        right = Right(dataset, told["claim"], told["fence"], told["ttl_s"], now + told["ttl_s"])
        if answer.status == 200:
            if before is None or before.claim != right.claim or before.ended:
                raise Broken(f"{right} was given again, and is not current: {before}.")
            self.counts["taken up again"] += 1
        else:
            if dataset in self.completed:
                raise Broken(f"{right} is on a completed dataset.")
            if before is not None and before.fence >= right.fence:
                raise Broken(f"The fence did not grow: {right} after {before}.")
            if before is not None and not before.ended:
                if before.expires > now:
                    raise Broken(f"At {now:.0f} s two fences live: {right} and {before}.")
                self.counts["taken over"] += 1
            self.counts["granted"] += 1
        self.rights[dataset] = self.by_claim[right.claim] = self.by_request[request] = right

    def _renewed(self, call: Call, answer: Answer, now: float) -> None:
        right = self.by_claim[int(call.path.split("/")[1])]
        if answer.status == 200:
            if self.rights[right.dataset] is not right:
                raise Broken(f"{right} was renewed after {self.rights[right.dataset]}.")
            right.expires = now + right.ttl_s
        else:
            self.counts["refused heartbeats"] += 1

    def _told(self, call: Call, answer: Answer) -> None:
        right = self.by_claim[call.body["claim"]]
        if answer.status != 201 or not answer.body["effective"]:
            self.counts["repeated statuses" if answer.status == 200 else "refused statuses"] += 1
            return
        if self.rights[right.dataset] is not right:
            raise Broken(f"A status of {right} counted after {self.rights[right.dataset]}.")
        if call.fails:
            right.ended = True
            self.counts["failed"] += 1
        if call.commits:
            right.ended = True
            if right.dataset in self.completed:
                raise Broken(f"{right} was completed twice.")
            self.completed.add(right.dataset)


class Audited:
    """A site whose answers the ledger looks at."""

    def __init__(self, site: Site, ledger: Ledger) -> None:
        self.site = site
        self.ledger = ledger

    def do(self, call: Call, now: float) -> tuple[Answer, Cost]:
        answer, cost = self.site.do(call, now)
        self.ledger.note(call, answer, now)
        return answer, cost
