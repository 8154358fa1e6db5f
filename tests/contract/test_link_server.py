"""The client's line to the server, to the real server and to the fake of crunch_tasks.testing: both answer alike."""

from __future__ import annotations

import datetime as dt
import os
from dataclasses import replace

import httpx
import pytest

from crunch_tasks.contract import ATTRIBUTE_KINDS, ClaimRequest, Stage, State
from crunch_tasks.errors import Refused, Unauthorized
from crunch_tasks.files.workspace import Workspace, held
from crunch_tasks.link.client import CrunchClient
from crunch_tasks.link.outbox import Outbox, Place
from crunch_tasks.link.sender import deliver_all
from crunch_tasks.needs import Resources
from crunch_tasks.testing import FakeServer

os.environ.setdefault("CRUNCH_SECRET_KEY", "only-for-tests")

GOOD_RUN = [(stage, state) for stage in Stage for state in (State.START, State.SUCCESS)]
SHA256 = "ab" * 32


class Fake:
    def __init__(self):
        self.server = FakeServer()

    def client(self, user):
        return self.with_token(f"{user}s-token")

    def with_token(self, token):
        return self.server.client(token, patience_s=0)

    def expire(self):
        self.server.advance(10_000)


class Real:
    def client(self, user):
        from django.contrib.auth.models import User
        from rest_framework.authtoken.models import Token

        found, _ = User.objects.get_or_create(username=user, is_staff=True)
        token, _ = Token.objects.get_or_create(user=found)
        return self.with_token(token.key)

    def with_token(self, token):
        from django.core.wsgi import get_wsgi_application

        transport = httpx.WSGITransport(app=get_wsgi_application())
        return CrunchClient("http://testserver", token, patience_s=0, transport=transport)

    def expire(self):
        from django.utils import timezone

        from server.models import Dataset

        Dataset.objects.exclude(lease_expires=None).update(lease_expires=timezone.now() - dt.timedelta(seconds=1))


@pytest.fixture(params=[pytest.param(Fake, id="fake"), pytest.param(Real, id="real", marks=pytest.mark.django_db)])
def site(request):
    return request.param()


@pytest.fixture
def alice(site):
    client = site.client("alice")
    client.create_project(name="p", workflow="echo hi\r\n ", max_attempts=2)
    client.create_dataset(parent="p", name="d")
    return client


@pytest.fixture
def bob(site, alice):
    return site.client("bob")


def refused(call, *arguments, **keywords):
    with pytest.raises(Refused) as caught:
        call(*arguments, **keywords)
    assert str(caught.value).endswith(".")
    return caught.value.status


def run(tmp_path, claim, events, client, note=""):
    """Record and deliver `events`; returns for each whether it was effective, or None when it was refused."""
    outbox = Outbox(Workspace(tmp_path / str(claim.fence), claim.slug).state)
    for stage, state in events:
        sha256 = SHA256 if (stage, state) == GOOD_RUN[-1] else ""
        outbox.record(
            claim, stage, state, note, manifest_sha256=sha256, diagnostics={"hostname": "h", "memory_free": 1}
        )
    delivered = deliver_all(tmp_path / str(claim.fence), client, held)
    return [done.effective if done.place is Place.SENT else None for done in delivered]


def test_a_claim_has_all_of_it_and_is_given_again(alice):
    claim = alice.claim(ClaimRequest("r1", client="host:1", project="p", flow_run_id="f"))
    assert (claim.slug, claim.fence, claim.project["slug"], claim.workflow) == ("p:d", 1, "p", "echo hi\r\n ")
    assert claim.heartbeat_s <= claim.ttl_s / 3
    again = alice.claim(ClaimRequest("r1", client="host:1", project="p", flow_run_id="f"))
    assert (again.claim, again.fence) == (claim.claim, claim.fence)
    assert alice.claim(ClaimRequest("r2")) is None
    known = {"id", "name", "slug", "parent", "description", "details", "attributes", "items", "base_file_path"}
    assert known | {"state", "locked", "attempt"} <= set(claim.dataset)
    limits = {"workflow_type", "lease_seconds", "max_attempts", "workflow_timeout_s", "visibility"}
    assert limits | {"id", "name", "slug", "description", "details", "workflow"} <= set(claim.project)


def test_a_claim_gets_what_fits_the_machine(alice):
    alice.create_dataset(parent="p", name="large", needs="gpus=1 memory=2GB fast")
    has = Resources(cores=2, memory=10**9, labels=frozenset({"fast"}))
    assert alice.claim(ClaimRequest("r1", capabilities=has.to_wire())).slug == "p:d"
    with pytest.raises(Refused, match="none fits this machine: p asks for memory=2GB gpus=1") as caught:
        alice.claim(ClaimRequest("r2", capabilities=has.to_wire()))
    assert (caught.value.status, caught.value.code) == (409, "unfit")
    assert alice.claim(ClaimRequest("r3")) is None
    has = Resources(memory=2 * 10**9, gpus=1, labels=frozenset({"fast", "other"}))
    assert alice.claim(ClaimRequest("r4", capabilities=has.to_wire())).slug == "p:large"
    assert alice.claim(ClaimRequest("r5", capabilities=has.to_wire())) is None


def test_a_claim_gets_what_ends_in_time(alice):
    with pytest.raises(Refused, match=r"p may take 60 s, and 59 s are left\.") as caught:
        alice.claim(ClaimRequest("r1", seconds=59.0))
    assert (caught.value.status, caught.value.code) == (409, "unfit")
    assert alice.claim(ClaimRequest("r2", seconds=61.0)).slug == "p:d"
    assert alice.claim(ClaimRequest("r3", seconds=0.0)) is None


def test_what_cannot_be_claimed_is_refused(alice, bob):
    assert refused(alice.claim, ClaimRequest("r1", dataset="p:none")) == 404
    assert refused(alice.claim, ClaimRequest("r2", project="none")) == 404
    alice.claim(ClaimRequest("r3"))
    assert refused(bob.claim, ClaimRequest("r4", dataset="p:d")) == 409
    alice.create_dataset(parent="p", name="held", locked=True)
    assert refused(bob.claim, ClaimRequest("r5", dataset="p:held")) == 409
    assert bob.claim(ClaimRequest("r6")) is None


def test_a_status_for_another_server_is_kept_for_that_one(alice, tmp_path):
    claim = alice.claim(ClaimRequest("r"))
    # The numbers fit by chance, as on a server that was made anew.
    outbox = Outbox(Workspace(tmp_path, claim.slug).state)
    outbox.record(replace(claim, site="0" * 8), *GOOD_RUN[-1], manifest_sha256=SHA256)
    [left] = deliver_all(tmp_path, alice, held)
    assert "another Crunch server" in left.reason and not left.effective
    assert [waiting.event for waiting in outbox.pending()] == [left.event]
    assert alice.get_dataset("p:d")["state"] == "running"


def test_a_good_run_is_six_effective_updates_once(alice, tmp_path):
    claim = alice.claim(ClaimRequest("r"))
    assert run(tmp_path, claim, GOOD_RUN, alice) == [True] * 6
    assert alice.get_dataset("p:d")["state"] == "completed"
    done = Outbox(Workspace(tmp_path / "1", "p:d").state).find(1, Stage.UPLOAD, State.SUCCESS)
    assert alice.post_status(done.event)["effective"]
    assert refused(alice.post_status, replace(done.event, note="another")) == 422
    rows = list(alice.pages("api/statuses/", dataset=str(claim.dataset["id"])))
    assert [(row["stage"], row["state"], row["effective"]) for row in rows] == [(*one, True) for one in GOOD_RUN]
    assert refused(alice.heartbeat, claim.claim, claim.fence) == 409
    assert refused(alice.claim, ClaimRequest("r")) == 409


def test_states_never_go_back_and_the_first_end_wins(alice, tmp_path):
    claim = alice.claim(ClaimRequest("r"))
    assert run(tmp_path, claim, [(Stage.WORKFLOW, State.START)], alice) == [True]
    assert run(tmp_path, claim, [(Stage.SETUP, State.SUCCESS)], alice) == [False]
    assert run(tmp_path, claim, [(Stage.WORKFLOW, State.SUCCESS)], alice) == [True]
    assert run(tmp_path, claim, [(Stage.WORKFLOW, State.FAIL)], alice) == [False]
    assert alice.get_dataset("p:d")["state"] == "running"
    assert run(tmp_path, claim, [(Stage.UPLOAD, State.FAIL)], alice, "disk full") == [True]
    assert alice.get_dataset("p:d")["state"] == "failed"
    assert run(tmp_path, claim, [(Stage.UPLOAD, State.SUCCESS)], alice) in ([None], [False])
    assert alice.get_dataset("p:d")["state"] == "failed"


def test_an_expired_lease_is_its_holders_until_another_takes_it(site, alice, bob, tmp_path):
    claim = alice.claim(ClaimRequest("r1"))
    site.expire()
    assert alice.heartbeat(claim.claim, claim.fence, {"done": 1}, "last\nlines\n")["ttl_s"] == claim.ttl_s
    assert bob.claim(ClaimRequest("r2")) is None
    site.expire()
    taken = bob.claim(ClaimRequest("r3"))
    assert taken.fence > claim.fence
    assert taken.dataset["attempt"] == 1
    assert refused(alice.heartbeat, claim.claim, claim.fence) == 409
    assert run(tmp_path, claim, GOOD_RUN[-1:], alice) == [None]
    assert bob.get_dataset("p:d")["state"] == "running"
    assert run(tmp_path, taken, GOOD_RUN, bob) == [True] * 6


def test_a_dataset_that_outlives_its_clients_too_often_fails(site, alice):
    for request in ("r1", "r2"):
        assert alice.claim(ClaimRequest(request)) is not None
        site.expire()
    assert alice.claim(ClaimRequest("r3")) is None
    assert alice.get_dataset("p:d")["state"] == "failed"


def test_what_had_to_wait_is_not_taken_once_its_last_attempt_is_lost(site, alice):
    alice.create_dataset(parent="p", name="large", needs="gpus=1")
    assert list(alice.pages("api/datasets/", project="p", lease="expired")) == []
    for request in ("r1", "r2"):
        assert alice.claim(ClaimRequest(request, dataset="p:large", only_waiting=True)) is not None
        site.expire()
        lost = [row["slug"] for row in alice.pages("api/datasets/", project="p", lease="expired")]
        assert lost == ["p:large"]
    with pytest.raises(Refused, match="p:large is failed already") as caught:
        alice.claim(ClaimRequest("r3", dataset="p:large", only_waiting=True))
    assert (caught.value.status, caught.value.code) == (409, "decided")
    assert alice.claim(ClaimRequest("r4", dataset="p:large")).dataset["attempt"] == 0


def test_a_claim_is_its_users_alone(alice, bob, tmp_path):
    claim = alice.claim(ClaimRequest("r"))
    assert refused(bob.heartbeat, claim.claim, claim.fence) == 403
    assert refused(bob.release, claim.claim, claim.fence, "mine") == 403
    assert run(tmp_path, claim, GOOD_RUN[:1], bob) == [None]
    assert refused(alice.heartbeat, 10_000, 1) == 404


def test_release_gives_it_back_uncharged(alice):
    claim = alice.claim(ClaimRequest("r1"))
    alice.release(claim.claim, claim.fence, "SIGTERM")
    dataset = alice.get_dataset("p:d")
    assert (dataset["state"], dataset["attempt"]) == ("unprocessed", 0)
    assert refused(alice.heartbeat, claim.claim, claim.fence) == 409
    assert alice.claim(ClaimRequest("r2")).fence > claim.fence


def test_cancel_and_reset_reach_the_client(alice):
    claim = alice.claim(ClaimRequest("r1"))
    assert not alice.heartbeat(claim.claim, claim.fence)["cancel"]
    alice.cancel(claim.claim)
    assert alice.heartbeat(claim.claim, claim.fence)["cancel"]
    assert alice.reset("p:d")["state"] == "unprocessed"
    assert refused(alice.heartbeat, claim.claim, claim.fence) == 409


def test_next_and_pages_and_the_catalogue(site, alice):
    assert alice.next() == alice.next("p") == "p:d"
    for number in range(25):
        alice.create_dataset(parent="p", name=f"n{number}")
    assert len(list(alice.pages("api/datasets/"))) == 26
    alice.create_item(parent="p:d", name="i")
    values = {"date": "2026-01-02", "datetime": "2026-01-02T03:04:05Z", "url": "https://example.org", "bool": True}
    for kind in ATTRIBUTE_KINDS:
        alice.create_attribute(
            kind.name, item="p:d", key=kind.name, **dict.fromkeys(kind.fields, values.get(kind.name, 1))
        )
    assert refused(alice.get_dataset, "p:none") == 404
    with pytest.raises(Unauthorized):
        site.with_token("wrong").next()
