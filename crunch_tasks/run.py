"""One dataset's run: what its three stages share, and what it remembers for the run after it."""

from __future__ import annotations

import datetime as dt
import json
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from crunch_tasks.compute.diagnostics import diagnostics
from crunch_tasks.contract import Claim, Stage, State, WorkflowType
from crunch_tasks.durable import write_durably
from crunch_tasks.errors import StorageError
from crunch_tasks.files.manifest import Manifest
from crunch_tasks.files.plan import Inputs
from crunch_tasks.files.storage import Storage
from crunch_tasks.files.transfer import Progress
from crunch_tasks.files.workspace import Workspace
from crunch_tasks.link.lease import Lease
from crunch_tasks.link.outbox import Outbox
from crunch_tasks.settings import RunOptions

Tell = Callable[[str], None]
"""Told what a run is at, in a few words, for whoever watches."""

LastWords = Callable[[BaseException], None]
"""Told of a stop from outside (Ctrl-C, SIGTERM) when a stage was ended by it; raises nothing."""

Turn = Callable[[], AbstractContextManager[None]]
"""Waits until the workflow may run, and lasts as long as it does; raises what the lease's `check` raises."""

Room = Callable[[int], None]
"""Waits until so many bytes may come to the disk; raises what the lease's `check` raises, WorkspaceError and NoTime."""

Watch = Callable[[Stage, Progress], None]
"""Told how far a stage's transfer is, now and then, from any thread."""


class Result(StrEnum):
    """How a run ended."""

    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    LEASE_LOST = "lease lost"
    RELEASED = "released"
    BLOCKED = "blocked"
    """Its workspace here cannot be used: it was given back at the command's end."""
    NO_ROOM = "no room"
    """Its files do not fit on this machine: likewise."""
    NO_TIME = "no time"
    """By its bytes it would not be done before this client's end: likewise."""
    UNDELIVERED = "undelivered"
    """The server does not answer: the next command in this directory tells it how the run ended."""


class DatasetRun:
    """What Setup, Workflow and Upload of one dataset share.

    A plain class: Prefect looks into dataclasses and models among a task's parameters, and nothing of this is its
    business.
    """

    def __init__(
        self,
        *,
        claim: Claim,
        lease: Lease,
        outbox: Outbox,
        storage: Storage,
        workspace: Workspace,
        options: RunOptions,
        secrets: list[str],
        page_url: str,
        tell: Tell,
        turn: Turn = nullcontext,
        room: Room = lambda _: None,
        watch: Watch = lambda *_: None,
    ) -> None:
        self.claim = claim
        self.lease = lease
        self.outbox = outbox
        self.storage = storage
        self.workspace = workspace
        self.options = options
        self.secrets = secrets
        self.page_url = page_url
        self.tell = tell
        self.turn = turn
        self.room = room
        self.watch = watch
        self.last_words: LastWords = lambda _: None
        self.turn_over: Callable[[], None] = lambda: None
        self.flow_run_id = ""
        self.flow_run_url = ""
        self.stage = Stage.SETUP
        self.inputs = Inputs(files={})
        self.setup_manifest = Manifest({})
        self.final_manifest = Manifest({})
        self.manifest_sha256 = ""
        self.downloaded = 0
        self.uploaded = 0
        self.remarks: list[str] = []
        self.has_begun = False
        self.finished = False
        self.is_unpromoted = False
        self.is_continued = False
        self.error: Exception | None = None
        self.summary: threading.Thread | None = None

    @property
    def prefix(self) -> str:
        """The dataset's place in the storage, ending in `/` so that `d1` is not `d10`."""
        return f"{self.claim.dataset['base_file_path']}/"

    @property
    def dataset_id(self) -> int:
        return int(self.claim.dataset["id"])

    @property
    def committed_fence(self) -> int:
        """The fence of the dataset's last commit, 0 when there was none; attempts up to it are history."""
        return int(self.claim.dataset["manifest_fence"])

    @property
    def input_bytes(self) -> int:
        return sum(source.size for source in self.inputs.files.values())

    @property
    def workflow_type(self) -> WorkflowType:
        return self.options.workflow or self.claim.workflow_type

    @property
    def snakemake_events(self) -> Path:
        """What Snakemake tells of its jobs, out of the workflow's reach."""
        return self.workspace.state / "snakemake_events.jsonl"

    @property
    def log(self) -> Path:
        """The workflow's output, out of the workflow's reach until it is published."""
        return self.workspace.state / "workflow.log"

    def record(self, stage: Stage, state: State, note: str = "") -> None:
        """Write an update down, for the outbox's sender to deliver; the second time the same one is no news."""
        self.stage = stage
        published = self.manifest_sha256 if (stage, state) == (Stage.UPLOAD, State.SUCCESS) else ""
        if not note and state is State.SUCCESS:
            note = "\n".join(self.remarks)
        new = self.outbox.record(
            self.claim,
            stage,
            state,
            note=note,
            flow_run_id=self.flow_run_id,
            flow_run_url=self.flow_run_url,
            manifest_sha256=published,
            diagnostics=diagnostics(self.workspace.root),
        )
        if new and state is State.START:
            self.progress(0, 0, "")

    def progress(self, done: int, total: int, what: str) -> None:
        """Say how far the current stage is: `done` of `total` steps (0: not known), and the name of the step."""
        self.lease.progress({"stage": int(self.stage), "done": done, "total": total, "what": what})
        steps = f" {done}/{total}" if total else ""
        self.tell(f"{self.stage.name.capitalize()}{steps} {what}".rstrip())

    def transferred(self, state: Progress) -> None:
        """A transfer's progress as the run's."""
        what = f"files, {state.bytes_done / 1e6:.1f} of {state.bytes / 1e6:.1f} MB, {state.bytes_per_s / 1e6:.1f} MB/s"
        if state.remaining_s:
            what += f", {dt.timedelta(seconds=round(state.remaining_s))} left"
        self.progress(state.files_done, state.files, what)
        self.watch(self.stage, state)

    @property
    def may_resume(self) -> bool:
        """Whether a workflow that is done need not run again: not where a person tries one out."""
        return self.options.upload and self.options.path is None

    # --- what the next run in the same workspace has to know ---------------------------------------------------------

    def journal(self) -> Journal:
        return Journal.read(self.workspace.state)

    def keep_journal(self, journal: Journal) -> None:
        write_durably(self.workspace.state / Journal.NAME, json.dumps(asdict(journal)).encode())

    def forget_journal(self) -> None:
        """The next run here starts from its inputs."""
        Journal.forget(self.workspace.state)

    def keep_setup_manifest(self, manifest: Manifest) -> None:
        write_durably(self.workspace.state / "setup_manifest.json", json.dumps(manifest.to_wire()).encode())

    def kept_setup_manifest(self) -> Manifest | None:
        try:
            return Manifest.from_wire(json.loads((self.workspace.state / "setup_manifest.json").read_bytes()))
        except (FileNotFoundError, ValueError, StorageError):
            return None


@dataclass(frozen=True)
class Journal:
    """How far an earlier run came in this workspace: from which inputs, with which workflow, and whether that ended.

    A run with the same `inputs` and `workflow` goes on where it stood; any other starts anew.
    """

    inputs: str = ""
    workflow: str = ""
    workflow_done: bool = False
    workspace: str = ""
    """The fingerprint of the workspace when the workflow was done."""
    fence: int = 0
    """Of the last run here that got through Setup."""

    NAME = "journal.json"

    @classmethod
    def read(cls, state: Path) -> Journal:
        """The journal in a state folder; an empty one when there is none or it cannot be understood."""
        try:
            body: dict[str, Any] = json.loads((state / cls.NAME).read_bytes())
            return cls(**body)
        except (FileNotFoundError, ValueError, TypeError):
            return cls()

    @classmethod
    def forget(cls, state: Path) -> None:
        (state / cls.NAME).unlink(missing_ok=True)

    @property
    def start(self) -> str:
        """What the run started from: the same on every machine."""
        return f"{self.inputs} {self.workflow}"

    def same_start(self, other: Journal) -> bool:
        return self.start == other.start
