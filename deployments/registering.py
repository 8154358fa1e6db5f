"""The work pools and the deployments crunch/run, crunch/next and crunch/loop, as a Prefect server is to have them.

A deployment names its flow by its module, so that it works wherever this package is installed: in a checkout, a virtual
environment, an image. To register them again changes what is asked for and leaves the rest: a schedule that somebody
turned on stays on, and so do a limit and tags.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import DeploymentScheduleCreate, WorkPoolCreate, WorkPoolUpdate
from prefect.client.schemas.objects import WorkPool
from prefect.client.schemas.responses import DeploymentResponse
from prefect.client.schemas.schedules import CronSchedule, IntervalSchedule
from prefect.deployments.runner import RunnerDeployment
from prefect.exceptions import ObjectNotFound
from prefect.flows import Flow
from prefect.types.entrypoint import EntrypointType
from prefect.workers.utilities import get_default_base_job_template_for_infrastructure_type

from crunch_tasks.errors import UsageError
from deployments.stack.services import POOL
from flows.loop import loop
from flows.next import next_
from flows.run import run

EVERY = timedelta(minutes=5)
KINDS = ("process", "docker", "kubernetes", "slurm")
AT_ONCE = 4
"""Runs at once of crunch/next and of crunch/loop, each, unless asked otherwise."""


@dataclass(frozen=True)
class Wanted:
    """How the deployments of a work pool are to be. With `project`, crunch/next and crunch/loop are for that one.

    Raises UsageError for a pool or a project that Prefect cannot have in a name.
    """

    pool: str = POOL
    project: str = ""
    schedule: IntervalSchedule | CronSchedule | None = None
    """When crunch/next runs; None: as it is, at first every five minutes once somebody turns that on."""
    limit: int | None = None
    """None: as it is, at first AT_ONCE of crunch/next and of crunch/loop, and any number of crunch/run."""
    tags: Sequence[str] = ()
    """Beside `crunch`; none: as they are."""

    def __post_init__(self) -> None:
        check_name("--pool", self.pool)
        if self.project:
            check_name("--project", self.project)

    def name(self, base: str) -> str:
        """`run`, `next` or `loop`, with the pool unless it is the usual one, and the project."""
        project = "" if base == "run" else self.project
        return "-".join(part for part in (base, self.pool if self.pool != POOL else "", project) if part)

    def of_all_projects(self) -> Wanted:
        """How crunch/run is to be, which all projects share: what is wanted for one of them is not wanted of it."""
        return Wanted(self.pool) if self.project else self


def check_name(option: str, name: str) -> None:
    """Raises UsageError unless Prefect can have it in a name, and in the address of what is so called."""
    if not re.fullmatch(r"\w[\w .-]*", name):
        raise UsageError(
            f"{option}: {name!r} is no name. Take letters, digits, dots, dashes, underscores and blanks, and no dot, "
            "dash or blank first."
        )


def set_up_pool(client: SyncPrefectClient, name: str, kind: str, limit: int | None, image: str) -> str:
    """Make the work pool, or change its limit and image; returns what was done. Raises UsageError.

    `limit` (None: as it is) is how many flow runs are at once on all of the pool's workers together.
    """
    pool = read_pool(client, name)
    if pool is not None and pool.type != kind:
        raise UsageError(f"There is a work pool {name} of the type {pool.type}. Give another --name, or that --type.")
    template = pool.base_job_template if pool else _template(kind)
    done = []
    default = template["variables"]["properties"].get("image")
    if default is not None and (image or pool is None) and default.get("default") != (image or "crunch"):
        default["default"] = image or "crunch"
        done.append(f"the image {default['default']}")
    if limit is not None and (pool is None or pool.concurrency_limit != limit):
        done.append(f"at most {limit} runs at once")
    if pool is None:
        client.create_work_pool(
            WorkPoolCreate(name=name, type=kind, base_job_template=template, concurrency_limit=limit)
        )
        return ", ".join(["made", *done])
    if not done:
        return "is there, as it was"
    changes: dict[str, Any] = {"base_job_template": template}
    client.update_work_pool(name, WorkPoolUpdate(**changes | ({} if limit is None else {"concurrency_limit": limit})))
    return f"is there, now with {' and '.join(done)}"


def read_pool(client: SyncPrefectClient, name: str) -> WorkPool | None:
    try:
        return client.read_work_pool(name)
    except ObjectNotFound:
        return None


def _template(kind: str) -> dict[str, Any]:
    found = asyncio.run(get_default_base_job_template_for_infrastructure_type(kind))
    if found is None:
        raise UsageError(f"Nothing here knows work pools of the type {kind}. Install crunch[{kind}] first.")
    return found


def register(client: SyncPrefectClient, wanted: Wanted) -> list[str]:
    """Make the deployments that are missing, and bring the others up to date; returns their names. The usual work pool
    is made if need be. Raises UsageError for another one that is not there.
    """
    if read_pool(client, wanted.pool) is None:
        if wanted.pool != POOL:
            raise UsageError(
                f"There is no work pool {wanted.pool}. Make it with `python -m deployments pools --name {wanted.pool}`."
            )
        set_up_pool(client, POOL, "process", None, "")
    return [
        _apply(client, wanted.of_all_projects(), "run", run, None),
        _apply(client, wanted, "next", next_, AT_ONCE),
        _apply(client, wanted, "loop", loop, AT_ONCE),
    ]


def _apply(client: SyncPrefectClient, wanted: Wanted, base: str, flow: Flow[Any, Any], limit: int | None) -> str:
    name = wanted.name(base)
    there = _read_deployment(client, name)
    RunnerDeployment.from_flow(
        flow,
        name,
        description=(flow.description or "").split(". ")[0],
        tags=tags_for(wanted, there),
        parameters={"project": wanted.project} if wanted.project and base != "run" else {},
        concurrency_limit=limit_for(wanted, there, limit),
        schedules=_schedules(wanted, there) if base == "next" else [],
        work_pool_name=wanted.pool,
        entrypoint_type=EntrypointType.MODULE_PATH,
    ).apply()
    return f"{flow.name}/{name}"


def _read_deployment(client: SyncPrefectClient, name: str) -> DeploymentResponse | None:
    try:
        return client.read_deployment_by_name(f"crunch/{name}")
    except ObjectNotFound:
        return None


def tags_for(wanted: Wanted, there: DeploymentResponse | None) -> list[str]:
    """Those that are asked for, or those that the deployment has already."""
    return there.tags if there and not wanted.tags else ["crunch", *wanted.tags]


def limit_for(wanted: Wanted, there: DeploymentResponse | None, first: int | None) -> int | None:
    """The limit that is asked for, or that which the deployment has already; `first` for a new one."""
    if wanted.limit is not None or there is None:
        return wanted.limit or first
    return there.global_concurrency_limit.limit if there.global_concurrency_limit else None


def _schedules(wanted: Wanted, there: DeploymentResponse | None) -> list[DeploymentScheduleCreate]:
    """The one that is asked for, or those that the deployment has already, or one that somebody may turn on."""
    if wanted.schedule is not None:
        return [DeploymentScheduleCreate(schedule=wanted.schedule, active=True)]
    earlier = there.schedules if there else []
    kept = [DeploymentScheduleCreate(schedule=one.schedule, active=one.active, slug=one.slug) for one in earlier]
    return kept or [DeploymentScheduleCreate(schedule=IntervalSchedule(interval=EVERY), active=False)]
