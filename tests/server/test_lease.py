"""The client's lease at a real server, in a client whose interpreter is busy."""

from __future__ import annotations

import subprocess
import sys
import time
from itertools import count
from pathlib import Path

import pytest

from crunch_tasks.contract import Claim, ClaimRequest
from crunch_tasks.link.client import CrunchClient
from tests.support.servers import crunch_server
from tests.support.site import until

LEASE_SECONDS = 2

CLIENT = """
import sys, threading
from pathlib import Path
from crunch_tasks.contract import Stage, State, StatusEvent
from crunch_tasks.link.claims import Claims
from crunch_tasks.link.client import CrunchClient

def spin():
    while True:
        sum(range(1000))

url, token, folder = sys.argv[1:]
client = CrunchClient(url, token)
for _ in range(4):
    threading.Thread(target=spin, daemon=True).start()
with Claims(Path(folder), url).new(dataset="birds:one").send(client) as lease:
    print("claimed", flush=True)
    sys.stdin.read()
    lease.check()
    claim = lease.claim
    end = StatusEvent("end", claim.site, claim.claim, claim.fence, claim.dataset["id"], Stage.UPLOAD, State.SUCCESS,
                      manifest_sha256="ab" * 32)
    assert client.post_status(end)["effective"]
"""


@pytest.mark.slow
def test_a_client_whose_threads_never_rest_keeps_its_lease(tmp_path: Path) -> None:
    """Somebody else asks for the dataset for as long as two leases last, and does not get it."""
    with crunch_server(tmp_path / "server", users=("alice", "bob")) as server:
        with CrunchClient(server.url, server.tokens["alice"]) as alice:
            alice.create_project(name="Birds", workflow="true\n", lease_seconds=LEASE_SECONDS, max_attempts=100)
            alice.create_dataset(parent="birds", name="One")
        words = [server.url, server.tokens["alice"], str(tmp_path / "work")]
        client = subprocess.Popen(
            [sys.executable, "-c", CLIENT, *words],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        try:
            assert client.stdout is not None
            assert client.stdout.readline() == b"claimed\n"
            over = time.monotonic() + 2 * LEASE_SECONDS
            with CrunchClient(server.url, server.tokens["bob"]) as bob:
                numbers = count()

                def taken() -> Claim | None:
                    return bob.claim(ClaimRequest(f"bobs-{next(numbers)}"))

                assert until(lambda: taken() or time.monotonic() > over) is True, "the lease was lost"
                _, said = client.communicate(timeout=60)
                assert (client.returncode, said) == (0, b"")
                assert bob.get_dataset("birds:one")["state"] == "completed"
        finally:
            client.kill()
            client.wait()
