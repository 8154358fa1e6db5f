"""Client, supervisor and Snakemake are killed at once; the next run there goes on, undisturbed by what lived on."""

from __future__ import annotations

import contextlib
import json
import os
import signal
from pathlib import Path

import psutil

from crunch_tasks.compute import supervisor
from tests.support.depth import long
from tests.support.site import GOOD_RUN, Site, until

# The second rule leaves a process behind that leaves its session, ignores SIGTERM, and spoils the output for ever.
SNAKEFILE = """
rule all:
    input: "second.txt"
rule first:
    output: "first.txt"
    shell: "echo ran >> {outside}/first.count; echo first > {{output}}"
rule second:
    input: "first.txt"
    output: "second.txt"
    shell:
        '''
        echo ran >> {outside}/second.count
        echo half > {{output}}
        if [ ! -e {outside}/straggler ]; then
            setsid -f bash -c 'trap "" TERM HUP; echo $$ > {outside}/straggler
                               while :; do echo spoilt > second.txt; echo spoilt > spoilt.txt; sleep 0.01; done'
            sleep 600
        fi
        echo whole > {{output}}
        '''
"""


@long
def test_a_run_after_all_was_killed_goes_on_and_nothing_of_the_old_one_writes(site: Site, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    text = SNAKEFILE.format(outside=outside)
    project = site.add_project("P", text, workflow_type="snakemake", lease_seconds=2)
    slug = site.add_dataset(project, "one", {"input.txt": b"x"})
    workspace = site.directory / "p" / "one"

    client = site.start("next")
    until((workspace / "spoilt.txt").exists, what="the straggler's first write")
    straggler = psutil.Process(int((outside / "straggler").read_text()))
    doomed = [psutil.Process(client.pid), *of_the_run(workspace)]
    doomed.remove(straggler)
    assert any(supervisor.__file__ in one.cmdline() for one in doomed)
    for number in (signal.SIGSTOP, signal.SIGKILL):
        for one in doomed:
            # The straggler's own short sleeps come and go.
            with contextlib.suppress(ProcessLookupError):
                os.kill(one.pid, number)
    client.communicate()
    assert straggler.is_running()
    assert any((workspace / ".snakemake" / "locks").iterdir())

    try:
        out = until(lambda: site.crunch("next", "--json", code=None).stdout, what="the lease's expiry")
        assert json.loads(out)["result"] == "completed"
        assert not straggler.is_running()
        assert of_the_run(workspace) == []
    finally:
        for one in of_the_run(workspace):
            one.kill()
    assert (outside / "first.count").read_text() == "ran\n"
    assert (outside / "second.count").read_text() == "ran\nran\n"
    assert site.files(slug)["second.txt"] == b"whole\n"
    assert site.statuses(slug)[-len(GOOD_RUN) :] == GOOD_RUN


def of_the_run(workspace: Path) -> list[psutil.Process]:
    """What lives of the workflow in this workspace, its supervisor included."""
    found = []
    for one in psutil.process_iter():
        try:
            if one.environ().get("CRUNCH_WORKSPACE") == str(workspace) and one.status() != psutil.STATUS_ZOMBIE:
                found.append(one)
        except psutil.Error:
            continue
    return found
