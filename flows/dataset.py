"""A dataset's run as a Prefect flow of three tasks, and all that stands around it: lock, lease, outbox, ending."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any
from uuid import UUID

from prefect import flow, tags
from prefect.context import FlowRunContext
from prefect.settings import PREFECT_FLOWS_HEARTBEAT_FREQUENCY, temporary_settings
from prefect.states import Cancelled as PrefectCancelled
from prefect.utilities.urls import url_for

from crunch_tasks.contract import Stage, State
from crunch_tasks.errors import Cancelled, CrunchError, LeaseLost, StorageError
from crunch_tasks.files import publication
from crunch_tasks.files.workspace import Workspace
from crunch_tasks.hooks import note_of
from crunch_tasks.link.lease import Lease
from crunch_tasks.link.outbox import Outbox, Place
from crunch_tasks.link.sender import Sender
from crunch_tasks.run import DatasetRun, Result
from crunch_tasks.settings import RunOptions
from crunch_tasks.setup import setup
from crunch_tasks.upload import upload
from crunch_tasks.workflow import workflow
from flows.artifact import publish_summary
from flows.report import Outcome, now
from flows.session import Session
from flows.watch import CANCELLED, CancelWatch, current_flow_runs, is_cancelled

LAST_WORD_S = 8.0
"""How long a run that is being stopped tries to tell the server, in seconds; batch systems leave about 30."""

_current: ContextVar[DatasetRun] = ContextVar("the dataset run of this context")


@flow(name="dataset", flow_run_name="{slug}", persist_result=False, validate_parameters=False)
def dataset_run(slug: str, project: str) -> Any:
    """Setup, Workflow, Upload. Its parameters are for people who look at it; what it needs is in the context."""
    run = _current.get()
    context = FlowRunContext.get()
    if context is not None and context.flow_run is not None:
        run.flow_run_id = str(context.flow_run.id)
        run.flow_run_url = url_for(context.flow_run) or ""
    try:
        setup(run)
        workflow(run)
        if run.options.upload:
            upload(run)
        run.finished = True
    except Cancelled as error:
        run.error = error
        return PrefectCancelled(message=str(error))
    except Exception as error:
        run.error = error
        raise
    if run.options.upload:
        publish_summary(run)
    return None


def process(session: Session, lease: Lease, options: RunOptions) -> Outcome:
    """Process the dataset of `lease`, to whatever end, and tell of it.

    A stop from outside (Ctrl-C, SIGTERM) passes on, after the dataset was released, or failed if Prefect cancelled.
    """
    started = now()
    claim = lease.claim
    with lease, _workspace_of(lease, session.settings.directory) as workspace:
        outbox = Outbox(workspace.state)
        run = DatasetRun(
            claim=claim,
            lease=lease,
            outbox=outbox,
            storage=session.storage(claim.ttl_s),
            workspace=workspace,
            options=options,
            secrets=session.secrets,
            page_url=f"{session.settings.url}/projects/{claim.project['slug']}/datasets/{claim.slug}",
            tell=lambda what: session.report.doing(claim.slug, what),
        )
        with Sender(session.client, outbox) as sender:
            result, note = _run_flow(session, run, sender)
        lease.stop(ended=result is not Result.UNDELIVERED)
        if result is Result.COMPLETED and options.cleanup:
            workspace.remove_files()
    outcome = Outcome(claim.slug, result, now() - started, note, run.downloaded, run.uploaded)
    session.report.ended(outcome)
    return outcome


@contextmanager
def _workspace_of(lease: Lease, directory: Path) -> Iterator[Workspace]:
    """The dataset's workspace, locked; who cannot have it (in use, not writable, another's) gives the dataset back."""
    claim = lease.claim
    with ExitStack() as stack:
        try:
            workspace = Workspace(directory, claim.slug)
            stack.enter_context(workspace.lock())
            workspace.bind(claim.site, int(claim.dataset["id"]), str(claim.dataset["base_file_path"]))
        except CrunchError as error:
            lease.release(str(error))
            raise
        yield workspace


def _run_flow(session: Session, run: DatasetRun, sender: Sender) -> tuple[Result, str]:
    flow_runs = current_flow_runs()
    token = _current.set(run)
    try:
        # Our lease says whether a run lives; Prefect's heartbeat thread would cost each run most of a second.
        with (
            tags(str(run.claim.project["slug"]), "crunch"),
            temporary_settings({PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}),
            CancelWatch(lambda: [*flow_runs, *_own_flow_run(run)], run.lease.cancel),
        ):
            _in_prefect(session, run)
        return _ending(session, run, sender)
    except CrunchError:
        raise
    except BaseException as stop:
        _stopped(run, sender, [*flow_runs, *_own_flow_run(run)], stop)
        raise
    finally:
        _current.reset(token)


def _in_prefect(session: Session, run: DatasetRun) -> None:
    """Run the flow. Prefect breaking around a run that came to its own end changes nothing for the dataset."""
    try:
        dataset_run(run.claim.slug, str(run.claim.project["slug"]), return_state=True)
    except Exception as error:
        if run.finished or run.error is not None:
            session.report.say(f"Prefect could not keep the end of this run: {error}")
            return
        run.lease.release(f"Prefect failed: {error}")
        raise CrunchError(f"Prefect failed, so {run.claim.slug} was given back: {error}") from error


def _ending(session: Session, run: DatasetRun, sender: Sender) -> tuple[Result, str]:
    """What became of a run whose flow is over, with every status delivered that can be."""
    error = run.error
    if isinstance(error, LeaseLost):
        return Result.LEASE_LOST, str(error)
    if error is None and not run.options.upload:
        run.lease.release("run without upload")
        return Result.RELEASED, "Its results stay in " + str(run.workspace.root)
    if error is None:
        # Prefect swallows what a hook raises; the outbox keeps one event of each kind, so this is no second one.
        run.record(Stage.UPLOAD, State.SUCCESS)
    else:
        run.record(run.stage, State.FAIL, note_of(error))
    undelivered = sender.flush(session.settings.server_patience_s)
    if undelivered:
        kept = (
            f"{undelivered} updates wait in {run.workspace.state}; the next command with this --directory sends them."
        )
        return Result.UNDELIVERED, f"The server does not answer. {kept}"
    if error is not None:
        return Result.CANCELLED if isinstance(error, Cancelled) else Result.FAILED, note_of(error)
    return _committed(run)


def _committed(run: DatasetRun) -> tuple[Result, str]:
    answer = run.outbox.find(run.claim.fence, Stage.UPLOAD, State.SUCCESS)
    if answer is None or answer.place is not Place.SENT or not answer.effective:
        reason = answer.reason if answer is not None else ""
        return Result.LEASE_LOST, f"The server did not take the results: {reason or 'the lease was lost'}."
    run.forget_journal()
    try:
        publication.promote(run.storage, run.prefix, run.claim.fence, run.manifest_sha256)
    except StorageError as problem:
        # The results are committed. Whoever reads the dataset next moves the rest to its place first.
        run.remarks.append(f"Some modified files are not at their own names yet: {problem}")
    return Result.COMPLETED, "\n".join(run.remarks)


def _stopped(run: DatasetRun, sender: Sender, flow_runs: Sequence[UUID], stop: BaseException) -> None:
    """Stopped from outside: a person's cancel in Prefect fails the stage, all else gives the dataset back."""
    if is_cancelled(flow_runs):
        run.record(run.stage, State.FAIL, CANCELLED)
        sender.flush(LAST_WORD_S)
        run.lease.stop(ended=True)
        return
    sender.flush(LAST_WORD_S)
    run.lease.release(f"stopped by {type(stop).__name__}")


def _own_flow_run(run: DatasetRun) -> list[UUID]:
    return [UUID(run.flow_run_id)] if run.flow_run_id else []
