"""Claims and leases: they survive crashes and outages, and end when the server or a person says so."""

from __future__ import annotations

import contextlib
import fcntl
import json
import threading
from pathlib import Path

import httpx
import pytest

from crunch_tasks.contract import ClaimRequest
from crunch_tasks.errors import (
    Cancelled,
    LeaseLost,
    Refused,
    ServerUnavailable,
    Unauthorized,
    UsageError,
    WorkspaceError,
)
from crunch_tasks.link import backoff
from crunch_tasks.link.claims import Claims
from crunch_tasks.link.lease import Lease, boot_clock
from crunch_tasks.testing import FakeServer

URL = "http://crunch.test"
PATIENCE_S = 20.0


@pytest.fixture(autouse=True)
def short_waits(monkeypatch):
    monkeypatch.setattr(backoff, "FIRST_WAIT_S", 0.005)


@pytest.fixture
def server():
    fake = FakeServer(lease_seconds=0.6)
    fake.add_project("p")
    fake.add_dataset("p", "d")
    return fake


class Gate:
    """Lets a test wait for the server to be asked, and break the line while `open` is False."""

    def __init__(self, server, path):
        self.open = True
        self.seen = threading.Semaphore(0)
        self.path = path
        server.before = self

    def __call__(self, request):
        if self.path in request.url.path:
            self.seen.release()
            if not self.open:
                raise httpx.ConnectError("no route")

    def wait(self, times=1):
        for _ in range(times):
            assert self.seen.acquire(timeout=PATIENCE_S)


def until(condition):
    for _ in range(2000):
        if condition():
            return
        threading.Event().wait(0.01)
    pytest.fail("this never came")


def claimed(server, directory):
    return Claims(directory, URL).new(project="p").send(server.client(patience_s=PATIENCE_S))


def rival_takes_over(server):
    server.advance(10)
    assert server.client("bobs-token").claim(ClaimRequest("rival")).slug == "p:d"


def test_a_lease_is_renewed_while_the_run_goes_on(server, tmp_path):
    gate = Gate(server, "heartbeat")
    with claimed(server, tmp_path) as lease:
        lease.progress({"done": 1, "total": 3})
        gate.wait(4)
        lease.check()
        assert lease.remaining_s() > 0
        assert server.datasets["p:d"]["progress"] == {"done": 1, "total": 3}


def test_the_output_is_told_when_it_is_news_and_once_more_at_its_end(server, tmp_path):
    gate = Gate(server, "heartbeat")
    sent = []

    def note(request):
        sent.append(json.loads(request.content).get("log_tail"))

    server.after = note
    said = ["one\n"]
    with claimed(server, tmp_path) as lease:
        with lease.showing(lambda: said[0]):
            until(lambda: server.log_tails.get("p:d") == "one\n")
            gate.wait(3)
            said[0] = "one\nlast\n"
        said[0] = "the file is elsewhere by now"
        until(lambda: server.log_tails["p:d"] == "one\nlast\n")
    assert [text for text in sent if text is not None] == ["one\n", "one\nlast\n"]


def test_an_outage_longer_than_the_lease_loses_nothing(server, tmp_path):
    gate = Gate(server, "heartbeat")
    with claimed(server, tmp_path) as lease:
        gate.open = False
        until(lambda: lease.remaining_s() < 0)
        lease.check()
        gate.open = True
        lease.may_write(0.3)
        assert lease.remaining_s() > 0


def test_a_lease_that_another_took_is_lost(server, tmp_path):
    gate = Gate(server, "heartbeat")
    lease = claimed(server, tmp_path)
    gate.open = False
    with lease:
        rival_takes_over(server)
        gate.open = True
        with pytest.raises(LeaseLost, match="p:d"):
            lease.may_write(0.3)
            until(lease.check)
    # The next command asks, and hears that this claim is over.
    (request,) = Claims(tmp_path, URL).leftovers()
    with pytest.raises(Refused):
        request.send(server.client())
    assert list(Claims(tmp_path, URL).leftovers()) == []


def test_a_dataset_that_was_reset_is_lost(server, tmp_path):
    with claimed(server, tmp_path) as lease:
        server.client().reset("p:d")
        with pytest.raises(LeaseLost):
            until(lease.check)


def test_a_cancel_says_who(server, tmp_path):
    with claimed(server, tmp_path) as lease:
        server.client("bobs-token").cancel(lease.claim.claim)
        with pytest.raises(Cancelled, match=r"Cancelled by bob\."):
            until(lease.check)


def test_a_cancelled_run_keeps_its_lease_for_its_last_words(server, tmp_path):
    gate = Gate(server, "heartbeat")
    with claimed(server, tmp_path) as lease:
        lease.cancel("Cancelled in Prefect.")
        with pytest.raises(Cancelled, match=r"in Prefect\."):
            lease.check()
        gate.wait(3)
        rival_takes_over(server)
        with pytest.raises(LeaseLost):
            until(lease_is_lost(lease))


def lease_is_lost(lease):
    def look():
        with contextlib.suppress(Cancelled):
            lease.check()

    return look


def test_a_progress_that_the_server_does_not_take_costs_no_lease(server, tmp_path, monkeypatch):
    gate = Gate(server, "heartbeat")
    with claimed(server, tmp_path) as lease:
        monkeypatch.setattr(lease, "_progress", ["what is this"])
        monkeypatch.setattr("crunch_tasks.link.client.dict", lambda progress: progress, raising=False)
        gate.wait(4)
        lease.check()
        assert lease.remaining_s() > 0


def test_no_write_begins_without_enough_lease(server, tmp_path):
    gate = Gate(server, "heartbeat")
    client = server.client(patience_s=0.2)
    with Claims(tmp_path, URL).new().send(client) as lease:
        gate.open = False
        until(lambda: lease.remaining_s() < 0.3)
        with pytest.raises(ServerUnavailable, match="p:d"):
            lease.may_write(0.3)
        with pytest.raises(UsageError, match="lease_seconds"):
            lease.may_write(0.6)


def test_a_revoked_token_is_told_when_the_lease_is_over(server, tmp_path):
    with claimed(server, tmp_path) as lease:
        server.tokens.clear()
        lease.check()
        with pytest.raises(Unauthorized):
            until(lease.check)


def test_time_counts_from_when_the_request_was_sent(server, tmp_path):
    claim = server.client().claim(ClaimRequest("r"))
    lease = Lease(server.client(), claim, sent_at=boot_clock() - 100)
    assert lease.remaining_s() < -99


def test_release_gives_the_dataset_back(server, tmp_path):
    with claimed(server, tmp_path) as lease:
        assert lease.release("SIGTERM")
    assert server.datasets["p:d"]["state"] == "unprocessed"
    assert server.datasets["p:d"]["attempt"] == 0
    assert list(Claims(tmp_path, URL).leftovers()) == []


def test_a_release_that_cannot_be_told_leaves_the_claim_to_the_next_command(server, tmp_path, monkeypatch):
    monkeypatch.setattr("crunch_tasks.link.lease.RELEASE_PATIENCE_S", 0.05)
    with claimed(server, tmp_path) as lease:
        gate = Gate(server, "release")
        gate.open = False
        assert not lease.release("SIGTERM")
    [left] = Claims(tmp_path, URL).leftovers()
    assert left.send(server.client()).claim.claim == lease.claim.claim


# --- requests on the disk ---


def test_the_request_is_on_the_disk_and_locked_before_it_is_sent(server, tmp_path):
    seen = []

    def before(request):
        for path in (tmp_path / ".state" / "claims").iterdir():
            with path.open("rb+") as file:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    seen.append(path.suffix)

    server.before = before
    claimed(server, tmp_path).stop(ended=True)
    assert seen == [".json"]


def test_a_claim_whose_answer_was_lost_with_its_process_is_found_again(server, tmp_path):
    def after(request):
        raise httpx.ReadTimeout("killed here")

    server.after = after
    request = Claims(tmp_path, URL).new(project="p")
    with pytest.raises(ServerUnavailable):
        request.send(server.client(patience_s=0))
    assert list(Claims(tmp_path, URL).leftovers()) == []  # this process lives and holds it
    request.leave()  # as the end of the process does

    server.after = None
    [left] = Claims(tmp_path, URL).leftovers()
    lease = left.send(server.client())
    assert (lease.claim.slug, lease.claim.fence) == ("p:d", 1)
    assert len(server.claims) == 1


def test_a_leftover_whose_claim_has_ended_is_forgotten(server, tmp_path):
    lease = claimed(server, tmp_path)
    lease.stop()
    server.client().reset("p:d")
    [left] = Claims(tmp_path, URL).leftovers()
    with pytest.raises(Refused) as caught:
        left.send(server.client())
    assert caught.value.code == "claim_ended"
    assert list(Claims(tmp_path, URL).leftovers()) == []


def test_a_last_look_before_the_commit_notices_a_cancel_since_the_last_heartbeat(server, tmp_path):
    with claimed(server, tmp_path) as lease:
        lease.confirm()
        server.claims[lease.claim.claim].cancelled_by = "bob"
        lease.renew()
        with pytest.raises(Cancelled, match="bob"):
            lease.confirm()


def test_nothing_to_claim_leaves_nothing_behind(server, tmp_path):
    server.datasets["p:d"]["locked"] = True
    assert claimed(server, tmp_path) is None
    assert list((tmp_path / ".state" / "claims").iterdir()) == []


def test_only_one_process_takes_a_leftover(server, tmp_path):
    Claims(tmp_path, URL).new().leave()
    first = list(Claims(tmp_path, URL).leftovers())
    assert len(first) == 1
    assert list(Claims(tmp_path, URL).leftovers()) == []


def test_a_torn_or_foreign_file_is_no_leftover(tmp_path):
    folder = tmp_path / ".state" / "claims"
    folder.mkdir(parents=True)
    (folder / "a.json").write_bytes(b'{"reque')
    (folder / "b.json").write_bytes(b"[]")
    before = len(list(Path("/proc/self/fd").iterdir()))
    assert list(Claims(tmp_path, URL).leftovers()) == []
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_a_directory_that_cannot_be_written_is_told_before_the_server_is_asked(server, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(WorkspaceError, match="--directory"):
        Claims(tmp_path / "file", URL).new()
    assert server.requests == []
