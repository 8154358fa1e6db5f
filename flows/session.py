"""One command's line to the server and the storage, and what earlier commands in its directory left to finish."""

from __future__ import annotations

import functools
import gc
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

from prefect.client.orchestration import get_client
from prefect.logging import get_run_logger
from prefect.settings import PREFECT_API_URL, PREFECT_FLOWS_HEARTBEAT_FREQUENCY, temporary_settings
from prefect.states import Completed, Failed

from crunch_tasks.contract import LEASE_SECONDS, DatasetState
from crunch_tasks.errors import (
    CrunchError,
    LeaseLost,
    NothingFits,
    NothingToProcess,
    NoTime,
    Refused,
    SettingsError,
    WorkspaceError,
)
from crunch_tasks.files.disk import RESERVE_BYTES, low_disk
from crunch_tasks.files.opening import open_storage
from crunch_tasks.files.storage import Storage, check_reachable, timeout_for
from crunch_tasks.files.workspace import check_directory
from crunch_tasks.link.claims import Claims, HeldRequest
from crunch_tasks.link.client import CrunchClient
from crunch_tasks.link.lease import Lease
from crunch_tasks.machine import resources
from crunch_tasks.needs import parse
from crunch_tasks.run import Result
from crunch_tasks.settings import ClientSettings, client_settings
from crunch_tasks.stopping import stoppable
from crunch_tasks.storage_settings import secrets_of
from flows.blocks import with_blocks
from flows.kept_client import close_client
from flows.leftovers import Leftovers
from flows.report import Report
from flows.standing import check_answers


@dataclass(frozen=True)
class Session:
    """Everything that runs need and that does not change from one dataset to the next."""

    settings: ClientSettings
    client: CrunchClient
    storage_config: Mapping[str, Any]
    secrets: list[str]
    claims: Claims
    report: Report
    blocked: list[tuple[Lease, ExitStack, Result]] = field(default_factory=list)
    """Leases on datasets that cannot be processed here, what is held for them, and how they ended."""
    _storages: dict[float, Storage] = field(default_factory=dict)

    def storage(self, lease_s: float) -> Storage:
        """The storage, with time-outs that fit into leases of `lease_s` seconds; its connections stay open."""
        if lease_s not in self._storages:
            self._storages[lease_s] = open_storage(self.storage_config, timeout_s=timeout_for(lease_s))
        return self._storages[lease_s]

    def finish_leftovers(self) -> None:
        """Deliver what earlier runs here could not, and finish what that commits. Before anything is claimed."""
        self._leftovers.deliver()

    @property
    def _leftovers(self) -> Leftovers:
        storage = functools.partial(self.storage, LEASE_SECONDS)
        return Leftovers(self.settings.directory, self.client, self.claims, storage, self.report.say)

    def claim(
        self,
        *,
        project: str = "",
        dataset: str = "",
        only_waiting: bool = False,
        cores: int = 0,
        share: int = 1,
        ahead: bool = False,
    ) -> Lease | None:
        """A lease on `dataset`, or on the next one that waits (of `project`) and fits this machine, of which a workflow
        gets `cores` and one part in `share` of the rest; None when none waits. `ahead` as in the claim's request: none
        that an idle client could start. A dataset that is named need not fit, nor wait, but for `only_waiting`.

        A claim that a dead command of this directory left is gone on with first, while it is still current. Raises
        WorkspaceError when too little of the disk is free: one dataset after another would fail; NothingFits.
        """
        # Room for the last words of a run is needed whatever the mark is.
        problem = low_disk(self.settings.directory, max(self.settings.low_water, 2 * RESERVE_BYTES))
        if problem:
            raise WorkspaceError(f"{problem} No dataset was claimed.")
        for request in self.claims.leftovers():
            # Its client may have died since this command began, beside it in the same directory.
            if self._leftovers.settle(request):
                request.leave()
                continue
            lease = self._again(request)
            if lease is None:
                continue
            slug = lease.claim.slug
            if (dataset or slug) == slug and (project or lease.claim.project["slug"]) == lease.claim.project["slug"]:
                self.report.say(f"Going on with {slug}, which an earlier command here left unfinished.")
                return lease
            lease.release("its client died, and the next one was to do something else")
        if dataset and not only_waiting:
            return self.claims.new(project=project, dataset=dataset).send(self.client)
        has = resources(cores, share, parse(self.settings.labels).labels)
        left = self.settings.seconds_left()
        return self.claims.new(
            project=project,
            dataset=dataset,
            ahead=ahead,
            capabilities=has,
            seconds=left,
            only_waiting=only_waiting,
        ).send(self.client)

    def others_work(self, project: str) -> bool:
        """Whether a dataset (of `project`) is running; once all of our own have ended, it is another client's."""
        projects = [project] if project else [str(row["slug"]) for row in self.client.pages("api/projects/")]
        running = {"state": DatasetState.RUNNING.value, "page_size": "1"}
        return any(any(self.client.pages("api/datasets/", project=slug, **running)) for slug in projects)

    def give_blocked_back(self) -> None:
        """Release the datasets that could not be processed here, so that others may."""
        for lease, held, result in self.blocked:
            with held:
                lease.release(f"it cannot be processed on this machine: {result}")

    def _again(self, request: HeldRequest) -> Lease | None:
        try:
            return request.send(self.client)
        except NothingFits:
            return None
        except Refused as error:
            # It ended meanwhile, or what it asked for is not there any more: nothing is left to do for it.
            if request.granted is not None:
                self.report.say(
                    f"{request.granted.slug}, which an earlier command here left, is not gone on with: {error}"
                )
            return None


@contextmanager
def open_session(settings: ClientSettings) -> Iterator[Session]:
    """Check everything that can be checked before a dataset is claimed, and finish what earlier runs left."""
    settings.require("url", "token", "storage_settings")
    # What was imported stays: to look through it at each full collection would take a tenth of a second a time.
    gc.freeze()
    config = settings.storage_config()
    check_directory(settings.directory)
    token = settings.token.get_secret_value()
    # A Prefect server that this command may start is not to have it.
    os.environ.pop("CRUNCH_TOKEN", None)
    with CrunchClient(settings.url, token, patience_s=settings.server_patience_s) as client, Report() as report:
        session = Session(
            settings=settings,
            client=client,
            storage_config=config,
            secrets=[token, *secrets_of(config)],
            claims=Claims(settings.directory, settings.url),
            report=report,
        )
        try:
            check_reachable(session.storage(LEASE_SECONDS))
        except SettingsError as error:
            raise SettingsError(f"{settings.storage_settings}: {error}") from error
        _check_prefect(report)
        session.finish_leftovers()
        # Our leases say whether runs live; Prefect's heartbeat thread would cost each most of a second. Set once, as
        # that takes 25 ms.
        with stoppable(), temporary_settings({PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}):
            try:
                yield session
            finally:
                session.give_blocked_back()
                close_client()


def _check_prefect(report: Report) -> None:
    """Raises CrunchError when a Prefect server is configured and does not answer."""
    address = PREFECT_API_URL.value()
    if not address:
        report.say(
            "No Prefect server is configured (PREFECT_API_URL), so a temporary one starts with each command, which "
            "takes ten to twenty seconds. `crunch up` starts one that stays, with a Crunch server and a worker."
        )
        return
    with get_client(sync_client=True) as client:
        check_answers(client, address)


IDLE, OVERTAKEN = "Idle", "Overtaken"
"""What Prefect calls the end of a run that found nothing to process, and of one that lost its dataset to another."""


def none_waits(project: str) -> NothingToProcess:
    """What to raise when nothing (of `project`) can be claimed."""
    return NothingToProcess(f"No dataset of {project} waits." if project else None)


class _Ended(Protocol):
    @property
    def exit_code(self) -> int: ...


def run_of_deployment(work: Callable[[ClientSettings], _Ended]) -> Any:
    """Do a deployment's `work` with the settings of the worker's environment or, where those lack, of Prefect's blocks.

    Nothing to process and a lost lease are no failures, a failed run is one. Returns what a flow is to: nothing, or a
    state with a word.
    """
    try:
        with with_blocks(client_settings()) as settings:
            outcome = work(settings)
    except NothingToProcess as error:
        get_run_logger().info("%s", error)
        return Completed(name=IDLE, message=str(error))
    except CrunchError as error:
        return Failed(message=str(error))
    if outcome.exit_code == NoTime.exit_code:
        return Completed(name=IDLE, message="What waits would not be done in the time that this worker has left.")
    if outcome.exit_code == LeaseLost.exit_code:
        return Completed(name=OVERTAKEN, message="The lease on a dataset was lost, so it is another client's now.")
    if outcome.exit_code:
        return Failed(message="A dataset's run did not complete; its own flow run and its page on the server say why.")
    return None
