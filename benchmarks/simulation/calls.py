"""What passes between clients and server: calls, answers, and what a call costs the server."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

CLAIM, STATUS, HEARTBEAT, RETRY = "claim", "status", "heartbeat", "retry"
"""The kinds of calls; the last one is a person's, who makes all failed datasets of the project unprocessed."""


@dataclass(frozen=True)
class Call:
    """A POST to `path` below api/."""

    kind: str
    path: str
    body: Mapping[str, Any] = field(default_factory=dict)

    @property
    def commits(self) -> bool:
        """Whether it is a run's last word, Upload Success."""
        return bool(self.body.get("manifest_sha256"))

    @property
    def fails(self) -> bool:
        return self.kind == STATUS and self.body["state"] == 3


class Answer(NamedTuple):
    status: int
    body: Mapping[str, Any]


class Cost(NamedTuple):
    """CPU seconds of a call: of a server process, and of the database."""

    python_s: float
    database_s: float


class Site(Protocol):
    """Does what a call asks for, at the second `now` of the simulation."""

    def do(self, call: Call, now: float) -> tuple[Answer, Cost]: ...
