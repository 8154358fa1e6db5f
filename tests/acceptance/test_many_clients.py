"""Several loops at once, clients that die, clients that are stopped: each dataset once, and none lost."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest

from tests.support.depth import long, whole
from tests.support.site import GOOD_RUN, Site, until

TELL_AND_WAIT = """#!/bin/bash
echo "$$" > started
while [ ! -e "{flag}" ]; do sleep 0.1; done
cat input.txt > output.txt
"""


@long
def test_four_loops_share_many_datasets(site: Site) -> None:
    project = site.add_project("Shared", "#!/bin/bash\ncat input.txt > output.txt\n")
    slugs = [
        site.add_dataset(project, f"d{number}", {"input.txt": b"%d" % number})
        for number in range(40 if whole() else 20)
    ]

    loops = [site.start("loop", "--json", "--directory", str(site.directory / str(i))) for i in range(4)]
    outcomes = [json.loads(loop.communicate(timeout=300)[0]) for loop in loops]

    processed = [run["dataset"] for outcome in outcomes for run in outcome["runs"]]
    assert sorted(processed) == sorted(slugs)
    assert {run["result"] for outcome in outcomes for run in outcome["runs"]} == {"completed"}
    for number, slug in enumerate(slugs):
        assert site.statuses(slug, effective=False) == GOOD_RUN
        assert site.files(slug)["output.txt"] == b"%d" % number


@pytest.fixture
def waiting(site: Site, tmp_path: Path) -> tuple[str, Path]:
    """A dataset whose workflow waits until the file `flag` is there; its slug and that file."""
    flag = tmp_path / "flag"
    project = site.add_project("Waiting", TELL_AND_WAIT.format(flag=flag), lease_seconds=3)
    return site.add_dataset(project, "one", {"input.txt": b"precious"}), flag


def workflow_pid(site: Site) -> int:
    started = site.directory / "waiting" / "one" / "started"
    return int(until(lambda: started.exists() and started.read_text().strip(), what="the workflow's start"))


def is_alive(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists() and "Z" not in Path(f"/proc/{pid}/stat").read_text().split()[2]


def test_a_killed_clients_workflow_dies_and_another_client_completes_its_dataset(
    site: Site, waiting: tuple[str, Path]
) -> None:
    slug, flag = waiting
    client = site.start("next")
    pid = workflow_pid(site)
    client.kill()
    client.communicate()
    until(lambda: not is_alive(pid), what="the end of the workflow")
    assert site.dataset(slug)["state"] == "running"

    flag.touch()
    elsewhere = str(site.directory / "elsewhere")
    outcome = until(
        lambda: site.crunch("next", "--json", "--directory", elsewhere, code=None).stdout, what="the lease's expiry"
    )

    assert json.loads(outcome)["result"] == "completed"
    assert site.files(slug) == {
        "input.txt": b"precious",
        "output.txt": b"precious",
        "started": site.files(slug)["started"],
    }
    dataset = site.dataset(slug)
    # The lost lease was charged.
    assert (dataset["state"], dataset["attempt"]) == ("completed", 1)
    assert site.statuses(slug)[-6:] == GOOD_RUN


def test_a_client_that_is_told_to_stop_gives_its_dataset_back(site: Site, waiting: tuple[str, Path]) -> None:
    slug, flag = waiting
    client = site.start("next")
    pid = workflow_pid(site)
    client.send_signal(signal.SIGTERM)
    client.communicate(timeout=30)

    assert client.returncode == 128 + signal.SIGTERM
    assert not is_alive(pid)
    assert site.dataset(slug)["state"] == "unprocessed"
    assert (3 not in [state for _, state in site.statuses(slug)]) and site.dataset(slug)["attempt"] <= 1

    flag.touch()
    site.crunch("next")
    assert site.dataset(slug)["state"] == "completed"


def test_ctrl_c_gives_the_dataset_back(site: Site, waiting: tuple[str, Path]) -> None:
    slug, _ = waiting
    client = site.start("next")
    workflow_pid(site)
    client.send_signal(signal.SIGINT)
    _, err = client.communicate(timeout=30)

    assert client.returncode == 128 + signal.SIGINT
    assert "Traceback" not in err
    assert site.dataset(slug)["state"] == "unprocessed"


def test_a_cancel_on_the_server_fails_the_stage_and_says_who(site: Site, waiting: tuple[str, Path]) -> None:
    slug, _ = waiting
    client = site.start("next", "--json")
    pid = workflow_pid(site)
    claim = site.dataset_claim(slug)
    site.client.cancel(claim)
    out, _ = client.communicate(timeout=30)

    assert json.loads(out)["result"] == "cancelled"
    assert client.returncode == 1
    assert not is_alive(pid)
    assert site.statuses(slug) == [(1, 1), (1, 2), (2, 1), (2, 3)]
    assert "alice" in site.notes(slug)[-1]
    assert site.dataset(slug)["state"] == "failed"


def test_a_second_client_in_the_same_workspace_refuses_and_names_the_first(
    site: Site, waiting: tuple[str, Path]
) -> None:
    slug, flag = waiting
    first = site.start("next")
    workflow_pid(site)
    os.kill(first.pid, signal.SIGSTOP)
    flag.touch()
    try:
        # The first one's lease expires while it stands still, so the second gets the claim, but not the folder.
        second = until(
            lambda: (done := site.crunch("loop", code=None)).returncode != 0 and done, what="the lease's expiry"
        )
        assert second.returncode == 1
        assert f"in use by process {first.pid}" in second.stderr
        assert site.dataset(slug)["state"] == "unprocessed"
        # It does not keep a loop from the others.
        other = site.add_dataset("waiting", "other", {"input.txt": b"x"})
        site.crunch("loop", code=1)
        assert site.dataset(other)["state"] == "completed"
    finally:
        os.kill(first.pid, signal.SIGCONT)
    first.communicate(timeout=60)
    assert first.returncode == 4
