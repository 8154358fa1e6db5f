"""Flow runs whose client is gone, marked in Prefect, which does not hear of the end of a machine."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from uuid import UUID

import httpx
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterName,
    FlowRunFilterState,
    FlowRunFilterStateType,
    FlowRunFilterTags,
)
from prefect.client.schemas.objects import StateType
from prefect.exceptions import PrefectException
from prefect.logging import get_logger
from prefect.settings import PREFECT_API_URL
from prefect.states import Crashed

GONE = "Its client is gone; the dataset is processed anew."


def running_of(prefect: SyncPrefectClient, slug: str) -> list[UUID]:
    """The flow runs of the dataset that are running, as far as Prefect knows."""
    running = FlowRunFilter(
        # The run of the deployment, and below it that of the dataset.
        name=FlowRunFilterName(any_=[f"run {slug}", slug]),
        tags=FlowRunFilterTags(all_=["crunch"]),
        state=FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType.RUNNING])),
    )
    return [run.id for run in prefect.read_flow_runs(flow_run_filter=running)]


def bury(prefect: SyncPrefectClient, dead: Iterable[UUID]) -> None:
    """Mark these flow runs as crashed."""
    for flow_run in dead:
        prefect.set_flow_run_state(flow_run, Crashed(message=GONE), force=True)


def bury_earlier(slug: str, alive: Collection[UUID]) -> None:
    """As a courtesy, before a run of a dataset that others had, or a command that died: mark those of its flow runs
    that are not known to be alive. A temporary Prefect server knows of none.
    """
    if not PREFECT_API_URL.value():
        return
    try:
        with get_client(sync_client=True) as prefect:
            bury(prefect, [run for run in running_of(prefect, slug) if run not in alive])
    except (PrefectException, httpx.HTTPError, OSError) as error:
        get_logger("crunch").info("Earlier runs of %s are not marked in Prefect: %s", slug, error)
