"""`python -m deployments.stack.registering`: the work pool `crunch` and its deployments, on PREFECT_API_URL.

They are those of prefect.yaml, by the name of their module: the stack also runs where there is no checkout. A schedule
that somebody turned on stays on.
"""

from __future__ import annotations

import contextlib
from datetime import timedelta

from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import DeploymentScheduleCreate, WorkPoolCreate
from prefect.client.schemas.schedules import IntervalSchedule
from prefect.deployments.runner import RunnerDeployment
from prefect.exceptions import ObjectAlreadyExists, ObjectNotFound
from prefect.types.entrypoint import EntrypointType

from deployments.stack.services import POOL
from flows.loop import loop
from flows.next import next_
from flows.run import run

AT_ONCE = 4
EVERY = DeploymentScheduleCreate(schedule=IntervalSchedule(interval=timedelta(minutes=5)), active=False)


def main() -> None:
    """Make what is missing, and bring up to date what is there."""
    with get_client(sync_client=True) as client:
        with contextlib.suppress(ObjectAlreadyExists):
            client.create_work_pool(WorkPoolCreate(name=POOL, type="process"))
        for name, flow, limit, schedules in (
            ("run", run, None, []),
            ("next", next_, AT_ONCE, [EVERY]),
            ("loop", loop, AT_ONCE, []),
        ):
            RunnerDeployment.from_flow(
                flow,
                name,
                description=(flow.description or "").split(". ")[0],
                tags=["crunch"],
                concurrency_limit=limit,
                schedules=_schedules(client, name) or schedules,
                work_pool_name=POOL,
                entrypoint_type=EntrypointType.MODULE_PATH,
            ).apply()


def _schedules(client: SyncPrefectClient, name: str) -> list[DeploymentScheduleCreate]:
    """Those that the deployment has already."""
    try:
        there = client.read_deployment_by_name(f"crunch/{name}").schedules
    except ObjectNotFound:
        return []
    return [DeploymentScheduleCreate(schedule=one.schedule, active=one.active, slug=one.slug) for one in there]


if __name__ == "__main__":
    main()
