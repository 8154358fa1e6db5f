"""The datasets of the run: their inputs, a workflow that can be held up on a host, and what must come out."""

from __future__ import annotations

import re

from benchmarks.hosts.network import Host
from tests.support.site import Site, until

LEASE_S = 20
SCHEDULED, DISPATCHED = "scheduled", "dispatched"

# A host whose home has a file `hold` with a project lets that one's workflows wait, and writes down that it does.
WORKFLOW = """#!/bin/bash
set -e
while [ "$(cat "$HOME/hold")" = "$CRUNCH_PROJECT" ]; do touch "$HOME/held"; sleep 0.2; done
echo appended >> input.txt
LC_ALL=C sort input.txt > sorted.txt
sleep 0.7
"""


def add_datasets(site: Site, count: int) -> list[str]:
    """Half of them in each of the two projects; their slugs."""
    for project in (SCHEDULED, DISPATCHED):
        site.add_project(project, WORKFLOW, lease_seconds=LEASE_S)
    return [
        site.add_dataset((SCHEDULED, DISPATCHED)[number % 2], f"d{number:03}", {"input.txt": _input(number)})
        for number in range(count)
    ]


def results(slug: str) -> dict[str, bytes]:
    """All files of a dataset that was processed once."""
    text = _input(int(slug.rpartition("d")[2])) + b"appended\n"
    return {"input.txt": text, "sorted.txt": b"".join(sorted(text.splitlines(keepends=True)))}


def _input(number: int) -> bytes:
    return b"".join(b"line %d\n" % (line * 7919 % 101 + number) for line in range(100))


def hold(host: Host, project: str) -> None:
    """From now on workflows of the project wait on the host."""
    (host.home / "hold").write_text(project)


def wait_for_held(host: Host) -> None:
    """Return once one waits there."""
    until((host.home / "held").exists, timeout_s=300, what=f"a workflow on {host.name}")


def let_go(host: Host) -> None:
    (host.home / "hold").write_text("")


def computes(host: Host) -> set[str]:
    """The datasets whose workflows run there."""
    folder = re.escape(str(host.work))
    found = (re.search(rf"{folder}/([^/]+)/([^/]+)/.crunch/script.sh", said) for said in host.commands().values())
    return {f"{match[1]}:{match[2]}" for match in found if match}
