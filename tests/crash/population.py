"""The datasets of the chaos test: their projects, inputs, workflows, and what must come out."""

from __future__ import annotations

from pathlib import Path

from tests.support.depth import whole
from tests.support.site import Site

SCRIPTS, SNAKEFILES = (52, 8) if whole() else (30, 5)
DATASETS = SCRIPTS + SNAKEFILES
LEASE_S = 5

# A workflow waits until no other one works on its dataset. A client that stood still while another one took its
# dataset must end its own workflow soon after it goes on, so nobody waits for long.
ALONE = (
    'exec 9>"{locks}/$CRUNCH_DATASET"; '
    # 1 is its time-out; somebody may kill it too.
    'flock -w 40 9 || [ $? -ne 1 ] || echo "$CRUNCH_DATASET" >> "{locks}/violations"'
)
SCRIPT = f"""#!/bin/bash
set -e
{ALONE}
echo appended >> input.txt
sleep 0.3
LC_ALL=C sort *.txt > sorted.txt
mkdir -p out
for i in 1 2 3; do (cat input.txt; echo $i) > out/$i; done
head -c 9000000 /dev/zero > out/large
"""
SNAKEFILE = f"""
rule all:
    input: "last.txt"
rule first:
    input: "input.txt"
    output: "first.txt"
    log: "first.log"
    shell: r'''{ALONE}; cp input.txt first.txt; cp input.txt first.idx; echo said > first.log; sleep 0.5'''
rule last:
    input: "first.txt"
    output: "last.txt"
    shell: r'''{ALONE}; echo half > tmp.$$; sleep 0.5; cat first.idx other.txt > last.txt; rm tmp.$$'''
"""


def add_datasets(site: Site, locks: Path) -> None:
    for name, workflow, kind, count in (
        ("scripts", SCRIPT, "script", SCRIPTS),
        ("snakefiles", SNAKEFILE, "snakemake", SNAKEFILES),
    ):
        # An attempt is charged for each client that was lost, and here many are.
        site.add_project(
            name,
            workflow.replace("{locks}", str(locks)),
            workflow_type=kind,
            lease_seconds=LEASE_S,
            max_attempts=1000,
        )
        for number in range(count):
            site.add_dataset(name, f"d{number}", inputs(number))


def inputs(number: int) -> dict[str, bytes]:
    return {"input.txt": b"dataset %d\n" % number, "other.txt": b"b\na\n" * number, "data/x": bytes(range(256)) * 40}


def results(slug: str) -> dict[str, bytes]:
    """All files of a dataset that is done."""
    project, _, name = slug.partition(":")
    files = inputs(int(name.removeprefix("d")))
    if project == "snakefiles":
        made = {"first.txt": files["input.txt"], "first.idx": files["input.txt"], "first.log": b"said\n"}
        return files | made | {"last.txt": files["input.txt"] + files["other.txt"]}
    text = files["input.txt"] + b"appended\n"
    lines = sorted((text + files["other.txt"]).splitlines(keepends=True))
    made = {f"out/{i}": text + b"%d\n" % i for i in (1, 2, 3)}
    return files | made | {"input.txt": text, "sorted.txt": b"".join(lines), "out/large": bytes(9_000_000)}
