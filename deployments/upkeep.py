"""What keeps a Prefect server true and small: dead flow runs marked as such, and old ones deleted."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from prefect.automations import AutomationCore, ChangeFlowRunState, EventTrigger, Posture, ResourceSpecification
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterEndTime,
    FlowRunFilterState,
    FlowRunFilterStateType,
    FlowRunFilterTags,
)
from prefect.client.schemas.objects import TERMINAL_STATES, StateType
from prefect.exceptions import ObjectNotFound

from crunch_tasks.contract import LEASE_SECONDS

ZOMBIES = "Crunch: flow runs that nobody hears of have crashed"
HEARTBEAT = "prefect.flow-run.heartbeat"
ENDS = ("Completed", "Failed", "Cancelled", "Crashed")
PAGE = 200


def mark_zombies(client: SyncPrefectClient) -> None:
    """Have Prefect mark as crashed what a worker started and what was silent for as long as a lease lasts.

    What becomes of the dataset is the lease's to say, on the Crunch server; this is so that Prefect's pages agree. So
    a run that is cut off from Prefect for less goes on unmarked, as its lease goes on. The flow runs of single datasets
    have no heartbeat of their own, as each would take most of a second longer.
    """
    automation = AutomationCore(
        name=ZOMBIES,
        description="Made by `python -m deployments automations`, which makes it again as it was.",
        enabled=True,
        trigger=EventTrigger(
            posture=Posture.Proactive,
            match=ResourceSpecification({"prefect.resource.id": "prefect.flow-run.*"}),
            match_related=ResourceSpecification({"prefect.resource.id": "prefect.tag.crunch"}),
            for_each={"prefect.resource.id"},
            after={HEARTBEAT},
            expect={HEARTBEAT, *(f"prefect.flow-run.{state}" for state in ENDS)},
            threshold=1,
            within=timedelta(seconds=LEASE_SECONDS),
        ),
        actions=[
            ChangeFlowRunState(
                name=None,
                state=StateType.CRASHED,
                message="Nothing was heard of this run for as long as a lease lasts.",
                force=False,
            )
        ],
    )
    there = client.read_automations_by_name(ZOMBIES)
    if there:
        client.update_automation(there[0].id, automation)
    else:
        client.create_automation(automation)


def delete_old_runs(client: SyncPrefectClient, days: float) -> int:
    """Delete flow runs of Crunch that ended more than so many days ago, with their logs; returns how many.

    Nothing that is running is touched, and no history of a dataset: that is on the Crunch server. May be stopped at any
    time, and run twice at once.
    """
    old = FlowRunFilter(
        tags=FlowRunFilterTags(all_=["crunch"]),
        state=FlowRunFilterState(type=FlowRunFilterStateType(any_=sorted(TERMINAL_STATES))),
        end_time=FlowRunFilterEndTime.model_validate({"before_": datetime.now(UTC) - timedelta(days=days)}),
    )
    deleted = 0
    while found := client.read_flow_runs(flow_run_filter=old, limit=PAGE):
        for flow_run in found:
            try:
                client.delete_flow_run(flow_run.id)
            except ObjectNotFound:
                continue  # somebody else was first
            deleted += 1
    return deleted
