"""What keeps a Prefect server true and small: dead flow runs marked as such, and old ones deleted."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime, timedelta
from uuid import UUID

from prefect.automations import AutomationCore, ChangeFlowRunState, EventTrigger, Posture, ResourceSpecification
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import (
    ArtifactFilter,
    ArtifactFilterFlowRunId,
    FlowRunFilter,
    FlowRunFilterEndTime,
    FlowRunFilterState,
    FlowRunFilterStateType,
    FlowRunFilterTags,
)
from prefect.client.schemas.objects import TERMINAL_STATES, StateType
from prefect.exceptions import ObjectNotFound

from crunch_tasks.contract import LEASE_SECONDS
from flows.session import IDLE, OVERTAKEN

SILENT = "Crunch: flow runs that nobody hears of have crashed"
UNBORN = "Crunch: flow runs that do not begin have crashed"
HEARTBEAT = "prefect.flow-run.heartbeat"
ENDS = ("Completed", IDLE, OVERTAKEN, "Failed", "Cancelled", "Crashed")
PAGE = 200


def mark_zombies(client: SyncPrefectClient, silent_for: timedelta = timedelta(seconds=LEASE_SECONDS)) -> list[str]:
    """Have Prefect mark as crashed what a worker started and what was silent for as long as a lease lasts; returns what
    was done, a line for each automation.

    What becomes of the dataset is the lease's to say, on the Crunch server; this is so that Prefect's pages agree, and
    that the dead take no place on the work pool. So a run that is cut off from Prefect for less goes on unmarked, as
    its lease goes on. The flow runs of single datasets have no heartbeat of their own, as each would take most of a
    second longer: whoever processes the dataset next marks them.
    """
    ours = ResourceSpecification({"prefect.resource.id": "prefect.tag.crunch"})
    # A batch system or a cluster may let a run wait for hours before it begins; a worker's own machine does not.
    here = ResourceSpecification({"prefect.work-pool.type": "process"})
    ends = _events(*ENDS)
    silent = _silence([ours], {HEARTBEAT}, {HEARTBEAT} | ends, silent_for)
    given = _events("Submitting", "Pending")
    unborn = _silence([ours, here], given, given | _events("Scheduled", "Running") | ends, silent_for)
    unheard = "Nothing was heard of this run for as long as a lease lasts."
    not_begun = "This run was given to a worker and did not begin for as long as a lease lasts."
    return [_automate(client, SILENT, silent, unheard), _automate(client, UNBORN, unborn, not_begun)]


def _events(*states: str) -> set[str]:
    """Those of a flow run that gets to one of the states."""
    return {f"prefect.flow-run.{state}" for state in states}


def _silence(
    related: list[ResourceSpecification], after: set[str], expect: set[str], within: timedelta
) -> EventTrigger:
    """That a flow run shows none of the events `expect` within that time after one of `after`."""
    return EventTrigger(
        posture=Posture.Proactive,
        match=ResourceSpecification({"prefect.resource.id": "prefect.flow-run.*"}),
        match_related=list(related),
        for_each={"prefect.resource.id"},
        after=after,
        expect=expect,
        threshold=1,
        within=within,
    )


def _automate(client: SyncPrefectClient, name: str, trigger: EventTrigger, message: str) -> str:
    """Make the automation that marks a flow run as crashed, or make it as it was; returns which."""
    automation = AutomationCore(
        name=name,
        description="Made by `python -m deployments automations`, which makes it again as it was.",
        enabled=True,
        trigger=trigger,
        actions=[ChangeFlowRunState(name=None, state=StateType.CRASHED, message=message, force=False)],
    )
    there = client.read_automations_by_name(name)
    if there:
        client.update_automation(there[0].id, automation)
        return f"Automation {name!r}: made again as it was"
    client.create_automation(automation)
    return f"Automation {name!r}: made"


def delete_old_runs(client: SyncPrefectClient, days: float) -> int:
    """Delete flow runs of Crunch that ended more than so many days ago, with logs and artifacts; returns how many.

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
        # Before their flow runs, whose ids are what they are found by: Prefect would keep them for ever.
        _delete_artifacts(client, [flow_run.id for flow_run in found])
        for flow_run in found:
            try:
                client.delete_flow_run(flow_run.id)
            except ObjectNotFound:
                continue  # somebody else was first
            deleted += 1
    return deleted


def _delete_artifacts(client: SyncPrefectClient, flow_runs: list[UUID]) -> None:
    """Delete what these flow runs show beside their logs: their progress, what they changed, the files at their end."""
    theirs = ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=flow_runs))
    while found := client.read_artifacts(artifact_filter=theirs, limit=PAGE):
        for artifact in found:
            with suppress(ObjectNotFound):  # somebody else was first
                client.delete_artifact(artifact.id)
