"""What server and clients promise each other: words, numbers, names in storage, and the bodies on the wire.

Pure: the standard library, no input or output.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import IntEnum, StrEnum
from typing import Any

from crunch_tasks.escapes import without_escapes


class Stage(IntEnum):
    """The three parts of a dataset's run, in their order."""

    SETUP = 1
    WORKFLOW = 2
    UPLOAD = 3


class State(IntEnum):
    """What a stage reached."""

    START = 1
    SUCCESS = 2
    FAIL = 3


class DatasetState(StrEnum):
    """A dataset's place in its life; one column, changed only by the server's services."""

    UNPROCESSED = "unprocessed"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"


class WorkflowType(StrEnum):
    SCRIPT = "script"
    SNAKEMAKE = "snakemake"


class Visibility(StrEnum):
    PRIVATE = "private"
    PUBLIC = "public"


LEASE_SECONDS = 900
"""A claim's time to live unless its project says otherwise, in seconds."""

MAX_ATTEMPTS = 3
"""Expired leases after which a dataset becomes failed instead of being claimed again."""

LEAST_SECONDS = 60.0
"""The time that a client must have left for a dataset of a project of which no run was completed yet."""

MAX_HEARTBEAT_SECONDS = 30.0
NOTE_BYTES = 8 * 1024
"""The longest note on the wire, in bytes of UTF-8; longer ones keep their head and tail."""

LOG_TAIL_BYTES = 8 * 1024
"""The most that a heartbeat tells of the end of a workflow's output, in bytes of UTF-8."""

PAGE_SIZE = 20
"""How many rows a page of a list has, unless more or fewer are asked for."""

LARGEST_PAGE = 500

DIAGNOSTICS: Mapping[str, type] = {
    "agent_user": str,
    "version": str,
    "revision": str,
    "system": str,
    "system_release": str,
    "system_version": str,
    "machine": str,
    "hostname": str,
    "ip_address": str,
    "mac_address": str,
    "memory_total": int,
    "memory_free": int,
    "disk_total": int,
    "disk_free": int,
}
"""What a client may tell of its machine with each status; sizes in bytes. All optional."""


def heartbeat_seconds(ttl_s: float) -> float:
    """How often to renew a lease of `ttl_s` seconds, so that two lost heartbeats do not lose it."""
    return min(MAX_HEARTBEAT_SECONDS, ttl_s / 3)


def cap_note(text: str, limit: int = NOTE_BYTES) -> str:
    """Make `text` fit for a status: plain, no NUL, no lone surrogates, at most `limit` bytes, head and tail kept."""
    clean = without_escapes(text).replace("\x00", "").encode("utf-8", "replace")
    if len(clean) <= limit:
        return clean.decode()
    middle = b"\n[... %d bytes left out ...]\n" % len(clean)
    head = (limit - len(middle)) // 4
    tail = limit - len(middle) - head
    # "ignore" drops what a cut left of a multi-byte character.
    return clean[:head].decode("utf-8", "ignore") + middle.decode() + clean[-tail:].decode("utf-8", "ignore")


def cap_log_tail(text: str, limit: int = LOG_TAIL_BYTES) -> str:
    """The end of `text`, fit for a heartbeat: plain text, no lone surrogates, at most `limit` bytes, whole lines."""
    # First, so that no sequence is cut.
    clean = without_escapes(text).replace("\x00", "").encode("utf-8", "replace")
    if len(clean) > limit:
        clean = clean[-limit:]
        # Only one line that is longer than all may begin in its middle.
        clean = clean.partition(b"\n")[2] or clean
    return clean.decode("utf-8", "ignore")


# --- names in a dataset's storage prefix and workspace ---------------------------------------------------------------

CRUNCH_FOLDER = ".crunch"
SETUP_MANIFEST = f"{CRUNCH_FOLDER}/setup_md5_checksums.json"
UPLOAD_MANIFEST = f"{CRUNCH_FOLDER}/upload_md5_checksums.json"
DELETED = f"{CRUNCH_FOLDER}/deleted.txt"
DATASET_JSON = f"{CRUNCH_FOLDER}/dataset.json"
PROJECT_JSON = f"{CRUNCH_FOLDER}/project.json"
WORKFLOW_FILE: Mapping[WorkflowType, str] = {
    WorkflowType.SCRIPT: f"{CRUNCH_FOLDER}/script.sh",
    WorkflowType.SNAKEMAKE: f"{CRUNCH_FOLDER}/Snakefile",
}
LOGS = f"{CRUNCH_FOLDER}/logs"
WORKFLOW_LOG = f"{LOGS}/workflow.log"


def attempt_folder(fence: int) -> str:
    """Where the attempt with this fence keeps what is not committed: its plan, modified inputs, logs of a failure."""
    return f"{CRUNCH_FOLDER}/attempts/{fence}"


def published_manifest(fence: int) -> str:
    """The manifest whose SHA-256 the server accepts as the commit of the attempt with this fence."""
    return f"{CRUNCH_FOLDER}/manifest-{fence}.json"


# --- attribute kinds -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class AttributeKind:
    """One kind of attribute: `name` on the wire (`api/attributes/NAME/`), `word` in `crunch add-WORD-attribute`."""

    name: str
    word: str
    python: type
    help: str
    fields: tuple[str, ...] = ("value",)


ATTRIBUTE_KINDS = (
    AttributeKind("char", "char", str, "a string of characters"),
    AttributeKind("float", "float", float, "a real number"),
    AttributeKind("int", "integer", int, "a whole number"),
    AttributeKind("filesize", "filesize", int, "a file's size in bytes"),
    AttributeKind("bool", "boolean", bool, "true or false"),
    AttributeKind("date", "date", dt.date, "a date, YYYY-MM-DD"),
    AttributeKind("datetime", "datetime", dt.datetime, "a date and time, ISO 8601"),
    AttributeKind("url", "url", str, "a web address"),
    AttributeKind("lat-long", "lat-long", float, "a place on Earth, in decimal degrees", ("latitude", "longitude")),
)


# --- bodies on the wire ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ClaimRequest:
    """A wish for any dataset, for one of the project with this slug, or for the dataset with this slug.

    `ahead` says that its client has enough to compute for now: it gets none that an idle client could start.
    `capabilities`: what the machine has, as `needs.Resources` on the wire; without them only a dataset that asks for
    nothing fits. One that is named needs none, and has to fit those that are told. `seconds`: how long the client may
    still work; None: there is no end. `only_waiting`: the dataset that is named only if it waits, as any other claim
    would have it, and not if it is decided.
    """

    request_id: str
    client: str = ""
    project: str = ""
    dataset: str = ""
    flow_run_id: str = ""
    flow_run_url: str = ""
    ahead: bool = False
    capabilities: Mapping[str, Any] | None = None
    seconds: float | None = None
    only_waiting: bool = False

    def to_wire(self) -> dict[str, Any]:
        # Zero seconds are to be told.
        return {name: value for name, value in asdict(self).items() if value not in ("", None) and value is not False}


@dataclass(frozen=True)
class Claim:
    """The server's answer to a claim: a lease on one dataset, with all that a run needs to know."""

    claim: int
    fence: int
    ttl_s: float
    heartbeat_s: float
    site: str
    dataset: Mapping[str, Any]
    project: Mapping[str, Any]
    workflow: str
    workflow_type: WorkflowType
    workflow_sha256: str

    @classmethod
    def from_wire(cls, body: Mapping[str, Any]) -> Claim:
        """Raises KeyError or ValueError when `body` is not a claim."""
        values = {name: body[name] for name in cls.__dataclass_fields__}
        return cls(**{**values, "workflow_type": WorkflowType(values["workflow_type"])})

    def to_wire(self) -> dict[str, Any]:
        return asdict(self)

    @property
    def slug(self) -> str:
        return str(self.dataset["slug"])


@dataclass(frozen=True)
class StatusEvent:
    """One stage reaching one state, as a client of ours posts it to `api/statuses/`.

    `site` is the server that gave the claim: another one, at the same address or not, must not take the event.
    """

    event_id: str
    site: str
    claim: int
    fence: int
    dataset: int
    stage: Stage
    state: State
    note: str = ""
    flow_run_id: str = ""
    flow_run_url: str = ""
    manifest_sha256: str = ""
    diagnostics: Mapping[str, Any] = field(default_factory=dict)

    def to_wire(self) -> dict[str, Any]:
        body = asdict(self)
        body.update(body.pop("diagnostics"))
        return body

    @classmethod
    def from_wire(cls, body: Mapping[str, Any]) -> StatusEvent:
        values = {name: body[name] for name in cls.__dataclass_fields__ if name in body}
        diagnostics = {name: body[name] for name in DIAGNOSTICS if name in body}
        return cls(
            **{**values, "stage": Stage(body["stage"]), "state": State(body["state"]), "diagnostics": diagnostics}
        )
