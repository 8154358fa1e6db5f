"""Flow runs whose client is gone, marked in Prefect, which does not hear of the end of a machine."""

from __future__ import annotations

from collections.abc import Collection
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


def bury(prefect: SyncPrefectClient, slug: str, alive: Collection[UUID] = ()) -> None:
    """Mark the running flow runs of the dataset as crashed, but for those that are known to be alive."""
    dead = FlowRunFilter(
        # The run of the deployment, and below it that of the dataset.
        name=FlowRunFilterName(any_=[f"run {slug}", slug]),
        tags=FlowRunFilterTags(all_=["crunch"]),
        state=FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType.RUNNING])),
    )
    for run in prefect.read_flow_runs(flow_run_filter=dead):
        if run.id not in alive:
            prefect.set_flow_run_state(run.id, Crashed(message="The lease on its dataset expired."), force=True)


def bury_earlier(slug: str, alive: Collection[UUID]) -> None:
    """The same, as a courtesy, before a run of a dataset that others had. A temporary Prefect server knows of none."""
    if not PREFECT_API_URL.value():
        return
    try:
        with get_client(sync_client=True) as prefect:
            bury(prefect, slug, alive)
    except (PrefectException, httpx.HTTPError, OSError) as error:
        get_logger("crunch").info("Earlier runs of %s are not marked in Prefect: %s", slug, error)
