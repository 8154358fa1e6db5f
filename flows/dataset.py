"""A dataset's run as a Prefect flow of three tasks, and what stands around it: workspace, lease, outbox."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, nullcontext
from contextvars import ContextVar
from threading import Lock, Thread
from typing import Any
from uuid import UUID

from prefect import flow, tags
from prefect.context import FlowRunContext, TagsContext
from prefect.states import Cancelled as PrefectCancelled
from prefect.states import Failed as PrefectFailed
from prefect.utilities.urls import url_for

from crunch_tasks.compute.leftovers import end_leftovers
from crunch_tasks.contract import Stage
from crunch_tasks.errors import Cancelled, CrunchError, LeaseLost, NoRoom, NoTime, Stopped, WorkspaceError
from crunch_tasks.files import cleaning
from crunch_tasks.files.workspace import Workspace
from crunch_tasks.link.lease import Lease
from crunch_tasks.link.outbox import Outbox
from crunch_tasks.link.sender import Sender
from crunch_tasks.run import DatasetRun, LastWords, Result, Room, Turn
from crunch_tasks.settings import ClientSettings, RunOptions
from crunch_tasks.setup import setup
from crunch_tasks.stages import first_line, perform
from crunch_tasks.stopping import deaf
from crunch_tasks.upload import upload
from crunch_tasks.workflow import workflow
from flows.artifact import TransferWatch, summary_beside
from flows.burial import bury_earlier
from flows.ending import ended, stopped
from flows.kept_client import is_away, keep_client
from flows.leftovers import remove_overtaken
from flows.past_runs import PastRuns
from flows.report import Outcome, now
from flows.session import OVERTAKEN, Session
from flows.watch import CancelWatch, current_flow_runs

SUMMARY_S = 5.0
"""How much longer than all else the summary for Prefect may take, in seconds."""

AGAIN_S = 1.0
"""Seconds until a run that Prefect's server did not answer is begun again."""

_current: ContextVar[DatasetRun] = ContextVar("the dataset run of this context")


@flow(name="dataset", flow_run_name="{slug}", persist_result=False, validate_parameters=False)
def dataset_run(slug: str, project: str) -> Any:
    """Setup, Workflow, Upload. Its parameters are for people who look at it; what it needs is in the context."""
    run = _current.get()
    run.has_begun = True
    context = FlowRunContext.get()
    if context is not None and context.flow_run is not None:
        run.flow_run_id = str(context.flow_run.id)
        run.flow_run_url = url_for(context.flow_run) or ""
        run.watch = TransferWatch(slug, run.dataset_id)
    # Tags are for the flow run: for each task's, Prefect would ask its server about limits on how many may run.
    with TagsContext(current_tags=set()):
        try:
            perform(setup, run)
            # What ends a run that waits for its turn is told of the stage that is next.
            run.stage = Stage.WORKFLOW
            with ExitStack() as turn:
                turn.enter_context(run.turn())
                run.turn_over = turn.close
                perform(workflow, run)
            if run.options.upload:
                perform(upload, run)
        except CrunchError as error:
            # In a turn that does not come, no stage notes it.
            run.error = run.error or error
            if isinstance(error, Stopped):
                # Before Prefect has it as cancelled, which it takes for a person's cancel.
                run.last_words(error)
            if isinstance(error, Cancelled | NoRoom | NoTime | Stopped):
                return PrefectCancelled(message=str(error))
            if isinstance(error, LeaseLost):
                # Nothing failed: the dataset is another client's.
                return PrefectCancelled(name=OVERTAKEN, message=str(error))
            return PrefectFailed(message=first_line(error), data=error)
    run.finished = True
    if run.options.upload:
        run.summary = summary_beside(run)
    return None


def process(
    session: Session,
    lease: Lease,
    options: RunOptions,
    turn: Turn = nullcontext,
    room: Room = lambda _: None,
    *,
    in_time: bool = True,
    made: Callable[[DatasetRun], None] = lambda _: None,
) -> Outcome:
    """Process the dataset of `lease`, to whatever end, and tell of it. Its files wait for `room`, its workflow for its
    `turn`. `in_time`: only where it is expected to be done before the client's end. `made` is given the run.

    A stop from outside (Ctrl-C, SIGTERM) passes on, after the dataset was released, or failed if Prefect cancelled.
    """
    started = now()
    past = PastRuns(session.settings, lease.claim)

    def fits(size: int) -> None:
        if in_time:
            past.check(size)
        room(size)

    summary: Thread | None = None
    with ExitStack() as stack:
        stack.enter_context(lease)
        try:
            workspace = _own_workspace(lease, session.settings, stack)
        except WorkspaceError as error:
            outcome = Outcome(lease.claim.slug, Result.BLOCKED, now() - started, str(error))
        else:
            run = _new_run(session, lease, options, workspace, turn, fits)
            made(run)
            outcome = _carry_out(session, run, past, started)
            summary = run.summary
        if outcome.result in (Result.BLOCKED, Result.NO_ROOM, Result.NO_TIME):
            # This machine's fault, not the dataset's. Kept until the session's end, so that a loop gets others.
            session.blocked.append((lease, stack.pop_all(), outcome.result))
    session.report.ended(outcome)
    if summary is not None:
        summary.join(SUMMARY_S)
    return outcome


def _new_run(
    session: Session, lease: Lease, options: RunOptions, workspace: Workspace, turn: Turn, room: Room
) -> DatasetRun:
    claim = lease.claim
    return DatasetRun(
        claim=claim,
        lease=lease,
        outbox=Outbox(workspace.state),
        storage=session.storage(claim.ttl_s),
        workspace=workspace,
        options=options,
        secrets=session.secrets,
        page_url=f"{session.settings.url}/projects/{claim.project['slug']}/datasets/{claim.slug}",
        tell=lambda what: session.report.doing(claim.slug, what),
        turn=turn,
        room=room,
    )


def _carry_out(session: Session, run: DatasetRun, past: PastRuns, started: float) -> Outcome:
    claim, root = run.claim, run.workspace.root
    with Sender(session.client, run.outbox) as sender:
        result, note = _run_flow(session, run, sender)
    if not isinstance(run.error, NoRoom | NoTime | Stopped):
        run.lease.stop(ended=result is not Result.UNDELIVERED and not run.is_unpromoted)
    if result is Result.LEASE_LOST:
        remove_overtaken(session.client, lambda: run.storage, claim.slug, claim.fence)
    if result is Result.COMPLETED:
        past.note(run.input_bytes, now() - started)
    if result is Result.COMPLETED and run.options.cleanup:
        published = {path: entry.md5 for path, entry in run.final_manifest.items()}
        note = "\n".join(filter(None, (note, cleaning.clean_up(run.workspace, published))))
    left = str(root) if root.exists() else ""
    return Outcome(claim.slug, result, now() - started, note, run.downloaded, run.uploaded, left)


def _own_workspace(lease: Lease, settings: ClientSettings, stack: ExitStack) -> Workspace:
    """The dataset's workspace, locked until `stack` ends. Raises WorkspaceError when it cannot be used."""
    claim = lease.claim
    workspace = Workspace(settings.directory, claim.slug, low_water=settings.low_water)
    stack.enter_context(workspace.lock())
    end_leftovers(workspace.mark)
    workspace.bind(claim.site, int(claim.dataset["id"]), str(claim.dataset["base_file_path"]))
    return workspace


def _run_flow(session: Session, run: DatasetRun, sender: Sender) -> tuple[Result, str]:
    flow_runs = current_flow_runs()
    run.last_words = _last_words(session, run, sender, lambda: [*flow_runs, *_own_flow_run(run)])
    if run.claim.fence > 1 or run.lease.was_begun:
        bury_earlier(run.claim.slug, flow_runs)
    token = _current.set(run)
    try:
        with (
            tags(str(run.claim.project["slug"]), "crunch"),
            CancelWatch(lambda: [*flow_runs, *_own_flow_run(run)], run.lease.cancel),
        ):
            _in_prefect(session, run)
        if isinstance(run.error, Stopped):
            return Result.RELEASED, str(run.error)
        if isinstance(run.error, NoRoom):
            return Result.NO_ROOM, str(run.error)
        if isinstance(run.error, NoTime):
            return Result.NO_TIME, str(run.error)
        return ended(run, sender, session.settings.server_patience_s)
    except Exception:
        raise
    except BaseException as stop:
        run.last_words(stop)
        raise
    finally:
        _current.reset(token)


def _last_words(
    session: Session, run: DatasetRun, sender: Sender, flow_runs: Callable[[], Sequence[UUID]]
) -> LastWords:
    """What a run that is stopped from outside still does, once: its stage hears of the stop first, we at the end."""
    once = Lock()

    def last_words(stop: BaseException) -> None:
        if not once.acquire(blocking=False):
            return
        with deaf():
            try:
                said = stopped(run, sender, flow_runs(), stop)
            except Exception as error:  # noqa: BLE001 - the stop is what counts
                said = f"{run.claim.slug} could not be given back: {error}"
            session.report.say(said)

    return last_words


def _in_prefect(session: Session, run: DatasetRun) -> None:
    """Run the flow, once Prefect's server is there: it may be away for as long as the Crunch server may.

    Prefect breaking around a run that came to its own end changes nothing for the dataset.
    """
    until = time.monotonic() + session.settings.server_patience_s
    problem = _try_in_prefect(session, run)
    if not run.has_begun and is_away(problem):
        session.report.say(f"Prefect's server does not answer, or has too much to do. {run.claim.slug} waits for it.")
    while not run.has_begun and is_away(problem) and time.monotonic() < until:
        try:
            run.lease.check()
        except CrunchError as error:
            run.error = error
            if isinstance(error, Stopped):
                run.last_words(error)
            return
        time.sleep(AGAIN_S)
        problem = _try_in_prefect(session, run)
    if not run.finished and run.error is None:
        run.lease.release(f"Prefect failed: {problem}")
        raise CrunchError(f"Prefect failed, so {run.claim.slug} was given back: {problem}")


def _try_in_prefect(session: Session, run: DatasetRun) -> object:
    """What became of the flow: its state, or what Prefect raised."""
    try:
        keep_client()
        return dataset_run(run.claim.slug, str(run.claim.project["slug"]), return_state=True)
    except Exception as error:  # noqa: BLE001 - whatever Prefect raises, the run is what counts
        if run.finished or run.error is not None:
            session.report.say(f"Prefect could not keep the end of this run: {error}")
        return error


def _own_flow_run(run: DatasetRun) -> list[UUID]:
    return [UUID(run.flow_run_id)] if run.flow_run_id else []
