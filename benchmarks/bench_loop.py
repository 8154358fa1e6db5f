"""`make bench-loop`: what lanes save, what a dataset costs beyond its workflow, and how several clients get on.

Every ratio is of two things measured in this run, on this machine, where Prefect's server, the Crunch server, both on
PostgreSQL, and the storages run beside the clients. ARGS names parts: lanes, idle, overhead, clients, start.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable, Mapping

from benchmarks import bare_prefect
from benchmarks.loops import Place, Work, running_place
from tests.support.site import Site

LANES = Work(count=40, size=6_000_000, seconds=4)
"""Each way over the slow line takes half as long as computing."""
LINE = 3_000_000
"""Bytes a second, each way."""
IDLE = Work(count=15, size=2_500_000, seconds=5)
"""Both ways over the slow line take a third of computing."""

SMALL = Work(count=40)
ROUNDS = 3
"""All contenders take turns in each: what a machine does beside it lasts longer than one of them."""

CLIENTS = (1, 2, 4, 8)
EACH = 5
SLEEP_S = 10.0

WANTED_S = {"folder": 0.15, "S3": 0.25}
DJANGO_CRUNCH_S = {"folder": 0.13, "S3": 0.27}
"""What a dataset takes with django-crunch beyond its workflow, without an orchestrator, measured elsewhere."""


def lanes(place: Place) -> None:
    """One dataset after the other against three lanes, where transfer takes as long as computing."""
    with place.in_s3(LINE) as site:
        one = place.loop(site, LANES, options=("--prefetch", "0"))
        three = place.loop(site, LANES)
    print(f"\nLanes: {LANES.count} datasets, {LANES.seconds:g} s of computing, as much of transfer\n")
    print(f"| | s |\n|---|---:|\n| one after the other | {one.wall:.0f} |\n| three lanes | {three.wall:.0f} |")
    print(f"\n{one.wall / three.wall:.2f} x as fast (wanted: 1.9)")


def idle(place: Place) -> None:
    """How long nothing computes, where transfer takes a third of computing."""
    with place.in_s3(LINE) as site:
        took = place.loop(site, IDLE)
    gaps = [later - earlier for earlier, later in zip(took.ended, took.begun[1:], strict=False)]
    print(f"\nIdle: {IDLE.count} datasets, {IDLE.seconds:g} s of computing, a third of that of transfer")
    gap = statistics.median(gaps)
    print(f"\n{100 * took.idle:.1f} % of the time nothing computed (wanted: under 5), {gap:.2f} s from one to the next")


def overhead(place: Place) -> None:
    """What a small dataset costs with an empty workflow, beyond a bare Prefect flow of three empty tasks."""
    with place.in_s3() as s3:
        folder = place.in_folder()
        one = ("--prefetch", "0")
        contenders: dict[str, Callable[[], float]] = {
            "bare": lambda: bare_prefect.seconds(place.prefect_api, SMALL.count),
            "folder": lambda: _each(place, folder, one),
            "folder, in lanes": lambda: _each(place, folder, ()),
            "S3": lambda: _each(place, s3, one),
            "S3, in lanes": lambda: _each(place, s3, ()),
        }
        rounds = [{name: seconds() for name, seconds in contenders.items()} for _ in range(ROUNDS)]
    print(f"\nOverhead: {SMALL.count} datasets of one small file with an empty workflow, medians of {ROUNDS} rounds\n")
    print("| | s a dataset | beyond bare Prefect, s | wanted, s | django-crunch, without Prefect, s |")
    print("|---|---:|---:|---:|---:|")
    for name in contenders:
        each = statistics.median(took[name] for took in rounds)
        if name == "bare":
            print(f"| a bare Prefect flow of three tasks | {each:.3f} | | | |")
            continue
        beyond = statistics.median(took[name] - took["bare"] for took in rounds)
        where = name.partition(",")[0]
        print(f"| {name} | {each:.3f} | {beyond:.3f} | {WANTED_S[where]} | {DJANGO_CRUNCH_S[where]} |")


def _each(place: Place, site: Site, options: tuple[str, ...]) -> float:
    """Seconds a dataset, from the first one's workflow to the last one's: without the loop's start."""
    begun = place.loop(site, SMALL, options=options).begun
    return (begun[-1] - begun[0]) / (len(begun) - 1)


def clients(place: Place) -> None:
    """Several clients with as much work for each, which mostly sleeps."""
    site = place.in_folder()
    print(f"\nClients: {EACH} datasets for each, a workflow that sleeps for {SLEEP_S:g} s\n")
    print("| clients | s | of linear (wanted: 0.9) |\n|---:|---:|---:|")
    first = 0.0
    for count in CLIENTS:
        took = place.loop(site, Work(count * EACH, seconds=SLEEP_S, meet=count), clients=count)
        # From when all are at work.
        seconds = took.ended[-1] - took.begun[count - 1]
        first = first or seconds
        print(f"| {count} | {seconds:.1f} | {first / seconds:.2f} |")


def start(place: Place) -> None:
    """How long `crunch next` takes to say that there is nothing to process."""
    site = place.in_folder()
    project = site.add_project("nothing", "true\n")

    def once() -> float:
        began = time.perf_counter()
        site.crunch("next", "--project", project, code=3)
        return time.perf_counter() - began

    once()
    seconds = statistics.median(once() for _ in range(5))
    print(f"\nStart: crunch next with nothing to process takes {seconds:.2f} s (wanted: 3)")


PARTS: Mapping[str, Callable[[Place], None]] = {
    "lanes": lanes,
    "idle": idle,
    "overhead": overhead,
    "clients": clients,
    "start": start,
}


def main() -> None:
    wanted = sys.argv[1:] or [*PARTS]
    if unknown := [name for name in wanted if name not in PARTS]:
        sys.exit(f"There are no parts {', '.join(unknown)}. Choose from {', '.join(PARTS)}.")
    with running_place() as place:
        for name in wanted:
            PARTS[name](place)


if __name__ == "__main__":
    main()
