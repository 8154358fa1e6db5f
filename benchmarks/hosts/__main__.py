"""`make hosts`: two hundred datasets on four hosts with a Prefect worker each; one is cut off, another one killed.

    python -m benchmarks.hosts [--datasets N] [--pictures FOLDER]

Half of the datasets go through `crunch/next` on a schedule, half through `crunch dispatch`, set up as
docs/many-machines.md says. Half-way the cable of host1 is pulled and all processes of host2 are killed, each while a
workflow runs there. It ends with exit code 1 unless every dataset is completed, with the right files, and none twice,
host1, back again, stopped what others had taken over, and Prefect knows of the dead runs.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
from prefect.client.orchestration import get_client
from prefect.settings import PREFECT_API_URL, temporary_settings

from benchmarks.hosts.hub import HEARTBEAT_S, Hub, hub
from benchmarks.hosts.network import HUB, Host, check_rights, network
from benchmarks.hosts.population import (
    DISPATCHED,
    LEASE_S,
    SCHEDULED,
    add_datasets,
    computes,
    hold,
    let_go,
    results,
    wait_for_held,
)
from benchmarks.hosts.verdict import Story, flow_runs, table
from crunch_tasks.errors import CrunchError, UsageError
from deployments.local import bare_environment
from deployments.upkeep import mark_zombies
from tests.support.site import until

HOSTS = 4
AT_ONCE = 2
"""Flow runs at once on a worker."""

EVERY_S = 8
LEAST = 60
SILENT_S = 3 * HEARTBEAT_S
QUIET_S = 1800
"""The most that the run may take, in seconds."""

PREFECT = str(Path(sys.executable).with_name("prefect"))


def main() -> int:
    """The exit code. Raises CrunchError when there cannot be such a run here."""
    arguments = argparse.ArgumentParser(prog="python -m benchmarks.hosts", description=(__doc__ or "").split("\n")[0])
    arguments.add_argument("--datasets", type=int, default=200)
    arguments.add_argument("--pictures", type=Path, help="a folder for pictures of Prefect's pages at the end")
    words = arguments.parse_args()
    if words.datasets < LEAST:
        raise UsageError(f"--datasets: take {LEAST} or more, or none is left for the host that is to be killed.")
    check_rights()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="crunch-hosts-")))
        hosts = stack.enter_context(network(folder, HOSTS))
        centre = stack.enter_context(hub(folder, HUB))
        slugs = add_datasets(centre.site, words.datasets)
        set_up_prefect(centre)
        for host in hosts:
            let_go(host)
            start_worker(centre, host)
        began = time.monotonic()
        wrong = work(centre, hosts, words.datasets)
        say(f"{words.datasets} datasets in {time.monotonic() - began:.0f} s")
        stories = [story(centre, slug) for slug in slugs]
        wrong += [problem for one in stories for problem in one.problems()]
        wrong += [f"the files of {slug} are not right" for slug in slugs if centre.site.files(slug) != results(slug)]
        say(table(stories))
        say(f"Prefect's flow runs: {flow_runs(all_flow_runs(centre))}")
        if words.pictures:
            from benchmarks.hosts.pictures import take_pictures

            take_pictures(centre.site.prefect_api, words.pictures)
    for problem in wrong:
        say(f"WRONG: {problem}")
    return 1 if wrong else 0


def set_up_prefect(centre: Hub) -> None:
    """As docs/many-machines.md says; only that Prefect counts silent runs as dead sooner."""
    for words in (
        ["pools", "--limit", str(HOSTS * AT_ONCE)],
        ["deploy", "--project", SCHEDULED, "--every", f"{EVERY_S}s"],
    ):
        subprocess.run(
            [sys.executable, "-m", "deployments", *words],
            env=bare_environment() | {"PREFECT_API_URL": centre.site.prefect_api},
            check=True,
            stdout=subprocess.DEVNULL,
        )
    with temporary_settings({PREFECT_API_URL: centre.site.prefect_api}), get_client(sync_client=True) as client:
        mark_zombies(client, timedelta(seconds=SILENT_S))


def start_worker(centre: Hub, host: Host) -> None:
    words = [PREFECT, "worker", "start", "--pool", "crunch", "--limit", str(AT_ONCE), "--name", host.name]
    host.start(words, {**centre.environment, "CRUNCH_DIRECTORY": str(host.work)})


def work(centre: Hub, hosts: list[Host], count: int) -> list[str]:
    """The run, to the last dataset and the last word of Prefect; what went wrong."""
    cut, killed, *_ = hosts
    site = centre.site
    dispatch = site.start("dispatch", "--project", DISPATCHED, "--limit", str(AT_ONCE * HOSTS // 2))
    # Until a workflow waits on both, some more are completed: then it is about half.
    until(lambda: completed(centre) >= count // 2 - 8, QUIET_S, "half of the work")
    hold(cut, DISPATCHED)
    hold(killed, SCHEDULED)
    wait_for_held(cut)
    cut.cut_off()
    taken = computes(cut)
    say(f"{cut.name} is cut off while it computes {_list(taken)}; {completed(centre)} datasets are completed")
    wait_for_held(killed)
    say(f"{killed.name} is killed while it computes {_list(computes(killed))}; {completed(centre)} are completed")
    killed.kill()
    # Their leases expire. Its own workflows wait for ever, and nobody tells it but the server, when it is back.
    until(lambda: all(state(centre, slug) == "completed" for slug in taken), QUIET_S, f"{_list(taken)} by others")
    cut.rejoin()
    began = time.monotonic()
    until(lambda: not taken & computes(cut), 5 * LEASE_S, f"the end of the workflows on {cut.name}")
    say(f"others completed those; back again, {cut.name} ended its own after {time.monotonic() - began:.0f} s")
    let_go(cut)
    _, err = dispatch.communicate(timeout=QUIET_S)
    until(lambda: completed(centre) == count, QUIET_S, "the end of the work")
    wrong = [f"crunch dispatch ended with {dispatch.returncode}: {err}"] if dispatch.returncode else []
    pause_schedule(centre)
    until(lambda: not unfinished(centre), 4 * SILENT_S, "that Prefect has marked the dead runs")
    return wrong


def completed(centre: Hub) -> int:
    with site_http(centre) as http:
        return sum(
            http.get("/api/datasets/", params={"project": project, "state": "completed"})
            .raise_for_status()
            .json()["count"]
            for project in (SCHEDULED, DISPATCHED)
        )


def state(centre: Hub, slug: str) -> str:
    return str(centre.site.dataset(slug)["state"])


def _list(slugs: set[str]) -> str:
    return " and ".join(sorted(slugs))


def site_http(centre: Hub) -> httpx.Client:
    return centre.site.server.client()


def story(centre: Hub, slug: str) -> Story:
    dataset = centre.site.dataset(slug)
    rows = centre.site.client.pages("api/statuses/", dataset=str(dataset["id"]))
    return Story(slug, dataset["state"], sorted((dict(row) for row in rows), key=lambda row: int(row["id"])))


def pause_schedule(centre: Hub) -> None:
    with httpx.Client(base_url=f"{centre.site.prefect_api}/") as prefect:
        deployment = prefect.get(f"deployments/name/crunch/next-{SCHEDULED}").raise_for_status().json()["id"]
        prefect.post(f"deployments/{deployment}/pause_deployment").raise_for_status()


def all_flow_runs(centre: Hub, *states: str) -> list[Mapping[str, Any]]:
    """Those of these states' types, or all."""
    found: list[Mapping[str, Any]] = []
    kinds = {"state": {"type": {"any_": states}}} if states else {}
    while True:
        query = {"flow_runs": kinds, "limit": 200, "offset": len(found)}
        page = httpx.post(f"{centre.site.prefect_api}/flow_runs/filter", json=query).raise_for_status().json()
        if not page:
            return found
        found += page


def unfinished(centre: Hub) -> list[Mapping[str, Any]]:
    return all_flow_runs(centre, "SCHEDULED", "PENDING", "RUNNING", "CANCELLING")


def say(what: str) -> None:
    sys.stdout.write(f"{time.strftime('%H:%M:%S')} {what}\n" if "\n" not in what else f"\n{what}\n\n")
    sys.stdout.flush()


if __name__ == "__main__":
    try:
        sys.exit(main())
    except CrunchError as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(error.exit_code)
    except AssertionError as late:
        say(f"WRONG: {late}")
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
