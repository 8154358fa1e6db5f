"""Where a token and a storage's secret key may be found after runs: in their own places, and nowhere else."""

from __future__ import annotations

import sqlite3
import uuid
from pathlib import Path

import pytest

from tests.acceptance.test_prefect_worker import everything_in_prefect
from tests.support.seaweed import SeaweedS3
from tests.support.servers import CrunchServer
from tests.support.site import GOOD_RUN, Site

# Writes down all that it can see of its own process, its ancestors (their argv) and its siblings.
NOSY = """#!/bin/bash
env > env.txt
cat /proc/self/environ > environ.bin
pid=$$
while [ "$pid" -gt 1 ]; do
    cat "/proc/$pid/cmdline" >> cmdlines.bin
    echo >> cmdlines.bin
    for child in $(cat /proc/$pid/task/*/children); do cat "/proc/$child/cmdline" >> cmdlines.bin; done
    pid=$(awk '/^PPid/ {print $2}' "/proc/$pid/status")
done
env; env >&2
"""

SNAKEFILE = r"""
rule all:
    output: "seen.txt"
    shell: "env > {output}; env; env >&2; tr '\\0' ' ' < /proc/$PPID/cmdline"
"""

CHANGE_TOKEN = """
import sys, django
django.setup()
from rest_framework.authtoken.models import Token
Token.objects.filter(user__username="alice").update(key=sys.argv[1])
"""


def change_token(server: CrunchServer, key: str) -> None:
    server._python("-c", CHANGE_TOKEN, key)
    server.tokens["alice"] = key


def files_with(folder: Path, canaries: list[bytes]) -> list[Path]:
    files = [path for path in folder.rglob("*") if path.is_file()]
    return [path for path in files if any(canary in path.read_bytes() for canary in canaries)]


@pytest.mark.parametrize("storage_settings", ["s3"], indirect=True)
def test_token_and_storage_secret_are_found_nowhere(site: Site, s3: SeaweedS3) -> None:
    token = uuid.uuid4().hex
    change_token(site.server, token)
    secret = s3.secret_key
    # A user may have exported the storage's secret too, under any name.
    told = {"AWS_SECRET_ACCESS_KEY": secret, "MY_NOTES": f"my token is {token}"}
    canaries = [token.encode(), secret.encode()]
    good = site.add_dataset(site.add_project("Good", NOSY), "one", {"input": b"x"})
    bad = site.add_dataset(site.add_project("Bad", NOSY + "exit 3\n"), "one", {"input": b"x"})
    snake = site.add_dataset(site.add_project("Snake", SNAKEFILE, workflow_type="snakemake"), "one", {"input": b"x"})

    said = [site.crunch("loop", "--json", code=1, **told), site.crunch("files", good), site.crunch("run", good, **told)]

    for run in said:
        assert all(canary.decode() not in run.stdout + run.stderr for canary in canaries)
    assert site.statuses(good) == GOOD_RUN * 2
    assert site.statuses(snake) == GOOD_RUN
    assert site.statuses(bad)[-1] == (2, 3)
    # The workflow did look.
    seen = site.files(good)
    assert b"CRUNCH_DATASET=good:one" in seen["env.txt"]
    assert b"crunch" in seen["cmdlines.bin"]

    # The workspaces, the state folder, and Prefect's results on this machine.
    assert (site.directory / ".state" / "good" / "one").is_dir()
    assert files_with(site.directory, canaries) == []
    assert files_with(Path(site.environment["PREFECT_HOME"]), canaries) == []

    # The storage, with .crunch and logs.
    objects = [info.key for info in site.storage.list_objects("")]
    assert any("/logs/" in key for key in objects) and any("manifest-" in key for key in objects)
    for key in objects:
        content = site.storage.read(key)
        assert not any(canary in content for canary in canaries), key

    # Prefect's records.
    recorded = everything_in_prefect(site.prefect_api)
    assert good in recorded
    assert not any(canary.decode() in recorded for canary in canaries)

    # The server: its log, and its database but for the token's own row.
    assert not any(canary in site.server.log.read_bytes() for canary in canaries)
    database = sqlite3.connect(site.server.folder / "crunch.sqlite3")
    rows = [line for line in database.iterdump() if any(canary.decode() in line for canary in canaries)]
    assert len(rows) == 1 and 'INTO "authtoken_token"' in rows[0], rows


def test_a_storage_that_refuses_does_not_tell_its_secret(site: Site, s3: SeaweedS3, tmp_path: Path) -> None:
    """The message of a failure may quote the settings; not this part of them."""
    secret = "canary-storage-secret"
    wrong = tmp_path / "wrong.toml"
    wrong.write_text(s3.toml(s3.make_bucket("refusing")).replace(s3.secret_key, secret))
    slug = site.add_dataset(site.add_project("P", "#!/bin/bash\ntrue\n", lease_seconds=3), "one", {"input": b"x"})
    done = site.crunch("next", "--storage-settings", str(wrong), code=1)
    assert "SignatureDoesNotMatch" in done.stderr
    assert secret not in done.stdout + done.stderr
    # It is found out before anything is claimed: wrong keys must not fail one dataset after the other.
    assert (site.dataset(slug)["state"], site.statuses(slug)) == ("unprocessed", [])
    assert files_with(site.directory, [secret.encode()]) == []
    assert secret not in everything_in_prefect(site.prefect_api)
