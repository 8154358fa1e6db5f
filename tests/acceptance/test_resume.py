"""Ends in the middle, of clients and of servers, and what the next command makes of them."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest

from tests.support.depth import long, sample
from tests.support.servers import CrunchServer
from tests.support.site import GOOD_RUN, Site, until

UPLOAD_SUCCESS = (3, 2)
ROOT = Path(__file__).parents[2]

# Appends to an input and looks at all that is there: a redo that starts from anything but the inputs shows.
APPENDS = """#!/bin/bash
echo ran >> "{count}"
seen=$(find . -type f -not -path './.crunch/*' | LC_ALL=C sort)
echo "$seen" > seen.txt
echo appended >> input.txt
for i in 1 2 3 4 5 6; do head -c 1000 /dev/zero | tr '\\0' "$i" > "out$i"; done
"""

INPUTS = {"input.txt": b"precious\n", "other": b"x"}
RESULTS = {f"out{i}": str(i).encode() * 1000 for i in range(1, 7)}


def dying_storage(site: Site, tmp_path: Path) -> Path:
    """Storage settings for the same folder, through a class that kills its process at the nth object."""
    path = tmp_path / "dying.json"
    options = {"location": str(site.storage_settings.with_name("storage"))}
    backend = "tests.support.storages.DyingStorage"
    path.write_text(json.dumps({"STORAGES": {"default": {"BACKEND": backend, "OPTIONS": options}}}))
    return path


DEATHS = [
    ("in the same folder", 1),
    ("in the same folder", 7),
    ("from an empty folder", 3),
    ("from an empty folder", 10),
]


@pytest.mark.parametrize(("again", "at"), sample(DEATHS, 1))
def test_killed_in_upload(site: Site, tmp_path: Path, again: str, at: int) -> None:
    count = tmp_path / "count"
    project = site.add_project("P", APPENDS.format(count=count), lease_seconds=2)
    slug = site.add_dataset(project, "one", INPUTS)
    dying = str(dying_storage(site, tmp_path))
    site.environment |= {"CRUNCH_STORAGE_SETTINGS": dying, "PYTHONPATH": str(ROOT)}

    died = site.crunch("next", code=None, DIE_AFTER_SETUP_AT=str(at))
    assert died.returncode == -signal.SIGKILL, died.stderr
    assert site.dataset(slug)["state"] == "running"
    assert site.files(slug)["input.txt"] == INPUTS["input.txt"]

    same = again == "in the same folder"
    directory = site.directory if same else tmp_path / "empty"
    outcome = json.loads(
        until(
            lambda: site.crunch("next", "--json", "--directory", str(directory), code=None).stdout,
            what="the lease's expiry",
        )
    )

    assert outcome["result"] == "completed"
    assert count.read_text() == ("ran\n" if same else "ran\nran\n")
    if same:
        # Of the four that are sent at once, three may have been stored and not yet noted down.
        assert outcome["uploaded"] <= len(RESULTS) + 2 - max(0, at - 2) + 3
    files = site.files(slug)
    assert files.pop("seen.txt") == b"./input.txt\n./other\n"
    assert files == INPUTS | RESULTS | {"input.txt": b"precious\nappended\n"}
    assert site.statuses(slug).count(UPLOAD_SUCCESS) == 1
    assert site.dataset(slug)["state"] == "completed"


WAITS = """#!/bin/bash
echo appended >> input.txt
touch "{started}"
while [ ! -e "{flag}" ]; do sleep 0.1; done
"""


@pytest.fixture
def waiting(site: Site, tmp_path: Path) -> tuple[str, Path, Path]:
    """A dataset whose workflow tells that it `started` and waits for `flag`."""
    started, flag = tmp_path / "started", tmp_path / "flag"
    project = site.add_project("P", WAITS.format(started=started, flag=flag), lease_seconds=6)
    return site.add_dataset(project, "one", INPUTS), started, flag


def test_a_server_that_crashes_and_comes_back_while_the_workflow_runs(
    site: Site, waiting: tuple[str, Path, Path]
) -> None:
    slug, started, flag = waiting
    client = site.start("next", "--json")
    until(started.exists, what="the workflow's start")
    until(lambda: (2, 1) in site.statuses(slug), what="the workflow's Start")
    site.server.kill()
    flag.touch()
    # Workflow Success and Upload Start are written down while nobody listens.
    outbox = site.directory / ".state" / "p" / "one" / "outbox"
    until((outbox / "1-3-1.json").exists, what="the Upload's Start in the outbox")
    site.server.start()
    out, err = client.communicate(timeout=60)

    assert client.returncode == 0, err
    assert json.loads(out)["result"] == "completed"
    assert site.statuses(slug, effective=False) == GOOD_RUN
    assert site.files(slug)["input.txt"] == b"precious\nappended\n"


@long
def test_a_server_that_does_not_come_back_in_time_gets_the_results_from_the_next_command(
    site: Site, waiting: tuple[str, Path, Path]
) -> None:
    slug, started, flag = waiting
    client = site.start("next", CRUNCH_SERVER_PATIENCE_S="2")
    until(started.exists, what="the workflow's start")
    outbox = site.directory / ".state" / "p" / "one" / "outbox"
    until(lambda: (2, 1) in site.statuses(slug) and not any(outbox.glob("*")), what="the workflow's Start")
    site.server.stop()
    flag.touch()
    _, err = client.communicate(timeout=60)
    assert client.returncode == 1
    assert "Traceback" not in err
    assert "The server does not answer" in err and "the next command with this --directory sends" in err
    assert sorted(path.name for path in outbox.glob("*")) == ["1-2-2.json", "1-3-1.json", "1-3-2.json"]

    for command in ("next", "sync"):
        assert "cannot be reached" in site.crunch(command, code=1, CRUNCH_SERVER_PATIENCE_S="0").stderr
    site.server.start()
    assert site.dataset(slug)["state"] == "running"
    assert site.files(slug)["input.txt"] == INPUTS["input.txt"]

    delivered = site.crunch("sync", "--json")
    assert "Delivered Upload Success of an earlier run of p:one." in delivered.stderr
    said = json.loads(delivered.stdout)
    assert [(row["stage"], row["state"], row["effective"]) for row in said["delivered"]] == [
        ("workflow", "success", True),
        ("upload", "start", True),
        ("upload", "success", True),
    ]
    assert said["waiting"] == 0
    assert site.dataset(slug)["state"] == "completed"
    assert site.statuses(slug, effective=False) == GOOD_RUN
    assert site.files(slug)["input.txt"] == b"precious\nappended\n"
    assert not any(outbox.glob("*"))
    assert "Nothing waits" in site.crunch("sync").stderr
    site.crunch("next", code=3)


def test_sync_gives_back_what_a_command_never_heard_that_it_had(site: Site) -> None:
    slug = site.add_dataset(site.add_project("P", "#!/bin/bash\ntrue\n"), "one", {"input.txt": b"x"})
    assert site.crunch("next", code=None, CRASH_AT="claim-answered:1").returncode == -signal.SIGKILL
    assert site.dataset(slug)["state"] == "running"
    said = site.crunch("sync").stderr
    assert "p:one is given back" in said and "Nothing waits" in said
    assert (site.dataset(slug)["state"], site.dataset(slug)["attempt"]) == ("unprocessed", 0)
    assert list((site.directory / ".state" / "claims").iterdir()) == []


DELETE_TOKEN = """
import sys, django
django.setup()
from rest_framework.authtoken.models import Token
from django.contrib.auth.models import User
user = User.objects.get(username="alice")
Token.objects.filter(user=user).delete()
if sys.argv[1]:
    Token.objects.create(user=user, key=sys.argv[1])
"""


def set_token(server: CrunchServer, key: str) -> None:
    """Revoke alice's token, and give her another one if `key` is one."""
    server._python("-c", DELETE_TOKEN, key)


@long
def test_a_token_that_is_revoked_in_the_middle_keeps_the_outbox(site: Site, waiting: tuple[str, Path, Path]) -> None:
    slug, started, flag = waiting
    client = site.start("next")
    until(started.exists, what="the workflow's start")
    until(lambda: (2, 1) in site.statuses(slug), what="the workflow's Start")
    set_token(site.server, "")
    flag.touch()
    _, err = client.communicate(timeout=60)

    assert client.returncode == 2, err
    assert "Traceback" not in err
    assert "does not accept the token" in err
    outbox = site.directory / ".state" / "p" / "one" / "outbox"
    assert any(outbox.glob("*"))

    set_token(site.server, "new-token")
    site.server.tokens["alice"] = "new-token"
    # What was written down is delivered, or the dataset is run again: either way it is completed once.
    until(lambda: site.crunch("next", code=None) and site.dataset(slug)["state"] == "completed", what="the completion")
    assert site.files(slug)["input.txt"] == b"precious\nappended\n"
    assert site.statuses(slug).count(UPLOAD_SUCCESS) == 1
