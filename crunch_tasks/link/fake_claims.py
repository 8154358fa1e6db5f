"""The claims, leases and statuses of the fake server."""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass, field

import httpx

from crunch_tasks.contract import LEAST_SECONDS, DatasetState, Stage, State, heartbeat_seconds
from crunch_tasks.link.fake_catalogue import Body, FakeCatalogue, Problem
from crunch_tasks.needs import Resources, parse


@dataclass
class FakeClaim:
    """One claim as the fake server keeps it."""

    id: int
    user: str
    request_id: str
    dataset: Body
    fence: int
    cancelled_by: str = ""
    ended: bool = False


@dataclass
class FakeClaims(FakeCatalogue):
    """Who has which dataset, and what was said of it. Leases count `time.monotonic` plus what `advance` added."""

    claims: dict[int, FakeClaim] = field(default_factory=dict)
    statuses: list[Body] = field(default_factory=list)
    log_tails: dict[str, str] = field(default_factory=dict)
    _leases: dict[str, tuple[int, float]] = field(default_factory=dict)
    _ahead_s: float = 0.0

    def advance(self, seconds: float) -> None:
        """Let time pass on the server, so that leases expire."""
        self._ahead_s += seconds

    # --- its requests ---

    def _now(self) -> float:
        return time.monotonic() + self._ahead_s

    def _claim(self, user: str, body: Body) -> httpx.Response:
        for claim in self.claims.values():
            if (claim.user, claim.request_id) == (user, body["request_id"]):
                if claim.ended:
                    raise Problem(409, "The claim with this request_id has ended.", "claim_ended")
                return httpx.Response(200, json=self._claim_body(claim))
        project = body.get("project", "")
        has = Resources.from_wire(body.get("capabilities") or {})
        named = body.get("dataset", "")
        dataset = self._named(named, body.get("only_waiting", False)) if named else self._candidate(project, has)
        left = body.get("seconds", LEAST_SECONDS)
        if dataset is not None and left < LEAST_SECONDS:
            told = f"{dataset['parent']} may take {LEAST_SECONDS:.0f} s, and {left:.0f} s are left"
            raise Problem(409, f"Datasets wait, but none would be done in time: {told}.", "unfit")
        if body.get("capabilities") is not None:
            self._refuse_unfit([dataset] if dataset else self._waiting(project), has)
        if dataset is None or (body.get("ahead") and not self._enough_waits(project)):
            return httpx.Response(204)
        if dataset["state"] == DatasetState.RUNNING.value:
            dataset["attempt"] += 1
        elif dataset["state"] != DatasetState.UNPROCESSED.value:
            dataset["attempt"] = 0
        self._end_claim_of(dataset)
        dataset.update(state=DatasetState.RUNNING.value, fence=dataset["fence"] + 1)
        claim = FakeClaim(len(self.claims) + 1, user, body["request_id"], dataset, dataset["fence"])
        self.claims[claim.id] = claim
        return httpx.Response(201, json=self._claim_body(claim))

    def _enough_waits(self, project: str) -> bool:
        states = [row["state"] for row in self.datasets.values() if project in ("", row["parent"])]
        return states.count(DatasetState.UNPROCESSED.value) > states.count(DatasetState.RUNNING.value)

    def _claim_body(self, claim: FakeClaim) -> Body:
        project = self.projects[claim.dataset["parent"]]
        self._leases[claim.dataset["slug"]] = (claim.id, self._now() + project["lease_seconds"])
        return {
            "claim": claim.id,
            "fence": claim.fence,
            "ttl_s": project["lease_seconds"],
            "heartbeat_s": heartbeat_seconds(project["lease_seconds"]),
            "site": self.url,
            "dataset": claim.dataset,
            "project": project,
            "workflow": project["workflow"],
            "workflow_type": project["workflow_type"],
            "workflow_sha256": hashlib.sha256(project["workflow"].encode()).hexdigest(),
        }

    def _named(self, slug: str, only_waiting: bool) -> Body:
        dataset = self.datasets.get(slug)
        if dataset is None:
            raise Problem(404, f"There is no dataset {slug!r}.", "not_found")
        if dataset["locked"]:
            raise Problem(409, f"{slug} is held.", "locked")
        if self._lease_is_live(dataset):
            raise Problem(409, f"{slug} is being processed.", "leased")
        self._give_up(dataset)
        if only_waiting and dataset["state"] in (DatasetState.COMPLETED, DatasetState.FAILED):
            raise Problem(409, f"{slug} is {dataset['state']} already.", "decided")
        return dataset

    def _give_up(self, dataset: Body) -> bool:
        """Fail it if its lease has expired and that was its last attempt; whether it has failed so."""
        if not self._is_lost(dataset) or dataset["attempt"] + 1 < self.projects[dataset["parent"]]["max_attempts"]:
            return False
        self._end_claim_of(dataset)
        dataset.update(state=DatasetState.FAILED.value, fence=dataset["fence"] + 1)
        return True

    def _candidate(self, project: str, has: Resources = Resources()) -> Body | None:  # noqa: B008 - frozen
        if project and project not in self.projects:
            raise Problem(404, f"There is no project {project!r}.", "not_found")
        for dataset in self.datasets.values():
            if self.projects[dataset["parent"]]["paused"]:
                continue
            if dataset["locked"] or project not in ("", dataset["parent"]) or self._lacking(dataset, has):
                continue
            if dataset["state"] == DatasetState.UNPROCESSED.value:
                return dataset
            if self._is_lost(dataset) and not self._give_up(dataset):
                return dataset
        return None

    def _lacking(self, dataset: Body, has: Resources) -> str:
        """What the dataset asks for and is not there; empty when all is."""
        lacking = has.lacks(parse(dataset["needs"] or self.projects[dataset["parent"]]["needs"]))
        return str(lacking) if lacking != Resources() else ""

    def _waiting(self, project: str) -> list[Body]:
        return [
            dataset
            for dataset in self.datasets.values()
            if dataset["state"] == DatasetState.UNPROCESSED.value
            and not dataset["locked"]
            and project in ("", dataset["parent"])
        ]

    def _refuse_unfit(self, datasets: list[Body], has: Resources) -> None:
        for dataset in datasets:
            if lacking := self._lacking(dataset, has):
                told = f"{dataset['parent']} asks for {lacking}"
                raise Problem(409, f"Datasets wait, but none fits this machine: {told}.", "unfit")

    def _lease_is_live(self, dataset: Body) -> bool:
        _, expires = self._leases.get(dataset["slug"], (0, 0.0))
        return dataset["state"] == DatasetState.RUNNING.value and expires > self._now()

    def _is_lost(self, dataset: Body) -> bool:
        return dataset["state"] == DatasetState.RUNNING.value and not self._lease_is_live(dataset)

    def _end_claim_of(self, dataset: Body) -> None:
        claim, _ = self._leases.pop(dataset["slug"], (0, 0.0))
        if claim:
            self.claims[claim].ended = True

    def _own(self, user: str, claim_id: str) -> FakeClaim:
        claim = self.claims.get(int(claim_id))
        if claim is None:
            raise Problem(404, "There is no such claim.", "not_found")
        if claim.user != user:
            raise Problem(403, "This claim is another user's.", "not_yours")
        return claim

    def _current(self, user: str, claim_id: str, fence: int) -> FakeClaim:
        claim = self._own(user, claim_id)
        if claim.ended or claim.fence != fence or claim.dataset["fence"] != fence:
            raise Problem(409, "The lease is lost.", "lease_lost")
        return claim

    def _heartbeat(self, user: str, body: Body, claim_id: str) -> httpx.Response:
        claim = self._current(user, claim_id, body["fence"])
        if "progress" in body:
            if not isinstance(body["progress"], dict):
                raise Problem(400, "progress: an object is needed.", "invalid")
            claim.dataset["progress"] = body["progress"]
        if "log_tail" in body:
            if not isinstance(body["log_tail"], str):
                raise Problem(400, "log_tail: a text is needed.", "invalid")
            self.log_tails[claim.dataset["slug"]] = body["log_tail"]
        ttl_s = self.projects[claim.dataset["parent"]]["lease_seconds"]
        self._leases[claim.dataset["slug"]] = (claim.id, self._now() + ttl_s)
        return httpx.Response(
            200, json={"ttl_s": ttl_s, "cancel": bool(claim.cancelled_by), "cancelled_by": claim.cancelled_by}
        )

    def _release(self, user: str, body: Body, claim_id: str) -> httpx.Response:
        claim = self._current(user, claim_id, body["fence"])
        self._end_claim_of(claim.dataset)
        claim.dataset["state"] = DatasetState.UNPROCESSED.value
        return httpx.Response(204)

    def _cancel(self, user: str, _: Body, claim_id: str) -> httpx.Response:
        self.claims[int(claim_id)].cancelled_by = user
        return httpx.Response(204)

    def _status(self, user: str, body: Body) -> httpx.Response:
        if body["site"] != self.url:
            raise Problem(422, "The status belongs to a claim of another Crunch server.", "other_site")
        for stored in self.statuses:
            if stored["event_id"] == body["event_id"]:
                if any(stored[name] != value for name, value in body.items()):
                    raise Problem(422, "This event_id was used for another status.", "event_id_reused")
                return httpx.Response(200, json=stored)
        claim = self._own(user, str(body["claim"]))
        live = not claim.ended and body["fence"] == claim.fence == claim.dataset["fence"]
        stored = {**body, "effective": live and self._moves(claim, Stage(body["stage"]), State(body["state"]))}
        self.statuses.append(stored)
        if not live:
            raise Problem(409, "The lease is lost; kept as history.", "stale_fence")
        if stored["effective"]:
            self._move(claim, Stage(body["stage"]), State(body["state"]))
        return httpx.Response(201, json=stored)

    def _moves(self, claim: FakeClaim, stage: Stage, state: State) -> bool:
        """Forward only, and of one stage's Success and Fail the first."""
        reached = [
            (status["stage"], status["state"])
            for status in self.statuses
            if status["fence"] == claim.fence and status["dataset"] == claim.dataset["id"] and status["effective"]
        ]
        last = max(reached, default=(0, 0))
        return (stage, state) > last and not (stage == last[0] and last[1] != State.START)

    def _move(self, claim: FakeClaim, stage: Stage, state: State) -> None:
        ends = {(stage, State.FAIL): DatasetState.FAILED, (Stage.UPLOAD, State.SUCCESS): DatasetState.COMPLETED}
        reached = ends.get((stage, state))
        if reached is not None:
            claim.dataset["state"] = reached.value
            self._end_claim_of(claim.dataset)

    def _reset(self, _user: str, _body: Body, slug: str) -> httpx.Response:
        dataset = self.datasets.get(slug)
        if dataset is None:
            raise Problem(404, "Not found.", "not_found")
        self._end_claim_of(dataset)
        dataset.update(state=DatasetState.UNPROCESSED.value, fence=dataset["fence"] + 1, attempt=0)
        return httpx.Response(200, json=dataset)

    def _next(self, _user: str, _body: Body, project: str = "") -> httpx.Response:
        found = self._candidate(project)
        answer = {"project": found["parent"], "dataset": found["slug"]} if found else {"project": "", "dataset": ""}
        return httpx.Response(200, json=answer)
