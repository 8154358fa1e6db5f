"""What there is of a stack, and whether it is well."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime

import httpx
from prometheus_client.parser import text_string_to_metric_families

from deployments.stack.folder import StackFolder
from deployments.stack.process import Record, running
from deployments.stack.services import ASK_S, Part, Stack


@dataclass(frozen=True)
class PartStatus:
    """One service. `problem` is "" when it runs and is well; `pid` is 0 and `since` "" when it does not run."""

    name: str
    running: bool
    pid: int
    address: str
    since: str
    log: str
    problem: str


@dataclass(frozen=True)
class StackStatus:
    """All of it; `datasets` by state, None when the server does not tell. `unfinished`: what runs was begun by a first
    `up` that has not come to its end.
    """

    data: str
    services: list[PartStatus]
    datasets: Mapping[str, int] | None
    unfinished: bool = False

    @property
    def is_well(self) -> bool:
        return bool(self.services) and not self.unfinished and not any(service.problem for service in self.services)


def status(folder: StackFolder) -> StackStatus:
    """Asks all services at once, so that one that hangs costs its own time only. Raises SettingsError, UsageError."""
    settings = folder.in_force()
    if settings is None:
        return StackStatus(str(folder.path), [], None)
    stack = Stack(folder, settings)
    with ThreadPoolExecutor(8) as asking:
        datasets = asking.submit(_datasets, stack)
        services = list(asking.map(lambda part: _part(part, running(stack.record(part.key))), stack.parts()))
        return StackStatus(str(folder.path), services, datasets.result(), unfinished=folder.load() is None)


def _part(part: Part, record: Record | None) -> PartStatus:
    if record is None:
        return PartStatus(part.name, False, 0, part.address, "", str(part.log), "stopped")
    since = datetime.fromtimestamp(record.since, UTC).isoformat(timespec="seconds")
    return PartStatus(part.name, True, record.pid, part.address, since, str(part.log), part.problem())


def _datasets(stack: Stack) -> Mapping[str, int] | None:
    try:
        answer = httpx.get(
            f"{stack.url}/metrics/",
            headers={"Authorization": f"Token {stack.settings.token}"},
            timeout=ASK_S,
            trust_env=False,
        ).raise_for_status()
    except httpx.HTTPError:
        return None
    found: Counter[str] = Counter()
    for family in text_string_to_metric_families(answer.text):
        for sample in family.samples if family.name == "crunch_datasets" else ():
            found[sample.labels["state"]] += int(sample.value)
    return dict(found)
