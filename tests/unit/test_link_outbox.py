"""The outbox: each status is on the disk before it is sent, and arrives once, in order, whatever happens."""

from __future__ import annotations

import threading

import httpx
import pytest

from crunch_tasks.contract import NOTE_BYTES, ClaimRequest, Stage, State
from crunch_tasks.errors import ServerError, ServerUnavailable, Unauthorized, WorkspaceError
from crunch_tasks.files.workspace import Workspace, held
from crunch_tasks.link import backoff
from crunch_tasks.link.outbox import Outbox, Place
from crunch_tasks.link.sender import Sender, deliver_all
from crunch_tasks.testing import FakeServer

PATIENCE_S = 20.0
GOOD_RUN = [(stage, state) for stage in Stage for state in (State.START, State.SUCCESS)]


@pytest.fixture(autouse=True)
def short_waits(monkeypatch):
    monkeypatch.setattr(backoff, "FIRST_WAIT_S", 0.005)


@pytest.fixture
def server():
    fake = FakeServer()
    fake.add_project("p")
    fake.add_dataset("p", "d")
    return fake


@pytest.fixture
def claim(server):
    return server.client().claim(ClaimRequest("r"))


@pytest.fixture
def outbox(tmp_path):
    return Outbox(Workspace(tmp_path, "p:d").state)


def arrived(server):
    return [(status["stage"], status["state"]) for status in server.statuses]


def record_good_run(outbox, claim):
    for stage, state in GOOD_RUN:
        outbox.record(claim, stage, state, manifest_sha256="ab" if (stage, state) == GOOD_RUN[-1] else "")


def test_a_good_run_is_six_updates_and_completes_the_dataset(server, claim, outbox):
    with Sender(server.client(), outbox) as sender:
        record_good_run(outbox, claim)
        assert sender.flush(PATIENCE_S) == 0
    assert arrived(server) == GOOD_RUN
    assert server.datasets["p:d"]["state"] == "completed"
    assert server.statuses[-1]["manifest_sha256"] == "ab"
    done = outbox.find(claim.fence, Stage.UPLOAD, State.SUCCESS)
    assert (done.place, done.effective) == (Place.SENT, True)


def test_a_stage_starts_once_however_often_its_hook_runs(server, claim, outbox):
    assert outbox.record(claim, Stage.SETUP, State.START, diagnostics={"memory_free": 1})
    assert not outbox.record(claim, Stage.SETUP, State.START, diagnostics={"memory_free": 2})
    deliver_all_from(outbox, server)
    assert not outbox.record(claim, Stage.SETUP, State.START)
    assert len(server.statuses) == 1
    assert server.statuses[0]["memory_free"] == 1


def deliver_all_from(outbox, server, **options):
    return deliver_all(outbox.folder.parents[2], server.client(**options), held)


def test_an_event_is_whole_on_the_disk_when_record_returns(claim, outbox):
    outbox.record(claim, Stage.WORKFLOW, State.FAIL, "why\x00 " + "x" * 100_000)
    [again] = Outbox(outbox.folder).pending()
    assert again.event.note.startswith("why x")
    assert len(again.event.note.encode()) <= NOTE_BYTES
    assert [path.name for path in (outbox.folder / "outbox").iterdir()] == ["1-2-3.json"]


def test_events_are_ordered_by_number_not_by_name(server, claim, outbox):
    from dataclasses import replace

    for fence in (10, 9):
        outbox.record(replace(claim, fence=fence), Stage.SETUP, State.START)
    assert [recorded.event.fence for recorded in outbox.pending()] == [9, 10]


def test_all_arrive_in_order_after_an_outage(server, claim, outbox):
    asked = threading.Semaphore(0)

    def before(request):
        asked.release()
        return httpx.Response(503)

    server.before = before
    with Sender(server.client(), outbox) as sender:
        record_good_run(outbox, claim)
        assert asked.acquire(timeout=PATIENCE_S)
        assert asked.acquire(timeout=PATIENCE_S)
        assert sender.flush(0) == 6
        server.before = None
        assert sender.flush(PATIENCE_S) == 0
    assert arrived(server) == GOOD_RUN


def test_a_lost_answer_makes_no_second_row(server, claim, outbox):
    losses = [httpx.ReadTimeout("lost"), httpx.RemoteProtocolError("server killed")]

    def after(request):
        if losses:
            raise losses.pop()

    server.after = after
    with Sender(server.client(), outbox) as sender:
        record_good_run(outbox, claim)
        assert sender.flush(PATIENCE_S) == 0
    assert arrived(server) == GOOD_RUN
    assert all(result.effective for result in sender.results)


def test_killed_between_the_answer_and_the_note_of_it(server, claim, outbox, monkeypatch):
    record_good_run(outbox, claim)
    monkeypatch.setattr(Outbox, "delivered", lambda *_: pytest.fail("killed"))
    with pytest.raises(pytest.fail.Exception):
        deliver_all_from(outbox, server)
    monkeypatch.undo()
    delivered = deliver_all_from(outbox, server)
    assert arrived(server) == GOOD_RUN
    assert delivered[-1].effective
    assert delivered[-1].event.stage is Stage.UPLOAD


def test_a_refused_event_is_set_aside_and_the_rest_goes_on(server, claim, outbox):
    server.client().reset("p:d")
    record_good_run(outbox, claim)
    with Sender(server.client(), outbox) as sender:
        assert sender.flush(PATIENCE_S) == 0
    assert [result.place for result in sender.results] == [Place.REFUSED] * 6
    refused = outbox.find(claim.fence, Stage.UPLOAD, State.SUCCESS)
    assert "lease is lost" in refused.reason
    assert server.datasets["p:d"]["state"] == "unprocessed"


def test_a_refused_token_keeps_the_outbox_and_says_so(server, claim, outbox):
    record_good_run(outbox, claim)
    server.tokens.clear()
    with Sender(server.client(), outbox) as sender, pytest.raises(Unauthorized):
        sender.flush(PATIENCE_S)
    with pytest.raises(Unauthorized):
        deliver_all_from(outbox, server)
    assert len(outbox.pending()) == 6


@pytest.mark.parametrize(
    "answer", [httpx.Response(200, html="<p>Maintenance</p>"), httpx.Response(404, html="<p>?</p>")]
)
def test_a_page_of_a_proxy_sets_nothing_aside(server, claim, outbox, answer):
    outbox.record(claim, Stage.SETUP, State.START)
    server.before = lambda request: answer
    with pytest.raises(ServerError):
        deliver_all_from(outbox, server)
    server.before = None
    assert [recorded.place for recorded in deliver_all_from(outbox, server)] == [Place.SENT]


def test_the_next_command_delivers_what_every_run_left(server, tmp_path):
    server.add_dataset("p", "e")
    for name in ("d", "e"):
        claim = server.client().claim(ClaimRequest(name, dataset=f"p:{name}"))
        record_good_run(Outbox(Workspace(tmp_path, claim.slug).state), claim)
    server.before = lambda request: httpx.Response(502)
    with pytest.raises(ServerUnavailable):
        deliver_all(tmp_path, server.client(patience_s=0), held)
    server.before = None
    delivered = deliver_all(tmp_path, server.client(), held)
    assert len(delivered) == 12
    assert {row["state"] for row in server.datasets.values()} == {"completed"}
    assert deliver_all(tmp_path, server.client(), held) == []


def test_of_success_and_fail_the_first_wins(server, claim, outbox):
    record_good_run(outbox, claim)
    outbox.record(claim, Stage.UPLOAD, State.FAIL, "late")
    deliver_all_from(outbox, server)
    assert server.datasets["p:d"]["state"] == "completed"


def test_an_outbox_that_cannot_be_written_is_told(claim, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(WorkspaceError):
        Outbox(tmp_path / "file").record(claim, Stage.SETUP, State.START)
