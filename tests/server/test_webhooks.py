"""Webhooks: told of what was completed and failed and of nothing that was undone, signed, tried again, kept inside."""

from __future__ import annotations

import datetime as dt
import hashlib
import hmac
import json
import signal
import socket
from collections.abc import Iterator
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.management import call_command
from django.db import transaction
from django.test import Client
from django.utils import timezone
from rest_framework.test import APIClient

from crunch_tasks.contract import ClaimRequest, Stage, State, StatusEvent
from crunch_tasks.crash import VARIABLE, Point
from crunch_tasks.errors import ServerUnavailable
from crunch_tasks.link.client import CrunchClient
from server.models import Change, Dataset, Project, Webhook, WebhookDelivery
from server.permissions import Actor
from server.services import webhooks
from server.webhooks import sending
from tests.support.calls import claim, status
from tests.support.depth import long
from tests.support.receiver import Received, Receiver, receiver
from tests.support.servers import crunch_server
from tests.support.site import until

HOOKS = "/api/projects/birds/webhooks/"


@pytest.fixture
def listener(settings: Any) -> Iterator[Receiver]:
    """On this machine, which is allowed here."""
    settings.WEBHOOKS_PRIVATE = True
    with receiver() as running:
        yield running


@pytest.fixture
def secret(api: APIClient, project: Project, listener: Receiver) -> str:
    """Of a webhook on both events."""
    made = api.post(HOOKS, {"url": listener.url, "events": ["completed", "failed"]}, format="json")
    assert made.status_code == 201
    return str(made.json()["secret"])


def deliver() -> str:
    out = StringIO()
    call_command("deliver", stdout=out)
    return out.getvalue()


def run(api: APIClient, last: State, note: str = "") -> None:
    """Claim a dataset and let its last stage come out so."""
    held = claim(api, project="birds").json()
    for stage in (Stage.SETUP, Stage.WORKFLOW):
        status(api, held, stage, State.SUCCESS)
    assert status(api, held, Stage.UPLOAD, last, note=note).status_code == 201


def is_signed(got: Received, secret: str) -> bool:
    """As docs/api.md tells receivers to check it."""
    text = got.headers["X-Crunch-Timestamp"].encode() + b"." + got.body
    expected = "sha256=" + hmac.new(secret.encode(), text, hashlib.sha256).hexdigest()
    return hmac.compare_digest(got.headers["X-Crunch-Signature"], expected)


def later(**time: float) -> None:
    """Time passes for what is to be tried again."""
    WebhookDelivery.objects.exclude(next_try=None).update(next_try=timezone.now() - dt.timedelta(**time))


def test_what_is_completed_and_failed_is_told_once_and_signed(
    api: APIClient, dataset: Dataset, secret: str, listener: Receiver
) -> None:
    run(api, State.FAIL, note="no room")
    api.post(f"/api/datasets/{dataset.slug}/retry/")
    run(api, State.SUCCESS)
    assert listener.got == []
    assert "2 deliveries tried" in deliver()
    assert "0 deliveries tried" in deliver()
    told = {got.headers["X-Crunch-Event"]: got for got in listener.got}
    assert set(told) == {"failed", "completed"}
    assert all(is_signed(got, secret) for got in listener.got)
    assert not is_signed(Received(listener.got[0].headers, listener.got[0].body + b" "), secret)
    failed, completed = json.loads(told["failed"].body), json.loads(told["completed"].body)
    assert (failed["dataset"], failed["stage"], failed["note"]) == ("birds:one", "upload", "no room")
    assert (completed["project"], completed["fence"], completed["manifest_sha256"]) == ("birds", 3, "ab" * 32)


def test_only_what_was_asked_for_is_noted_and_nothing_that_is_undone(
    api: APIClient, dataset: Dataset, project: Project, alice: User
) -> None:
    hook = webhooks.create(Actor(alice), project, "https://example.org/", ["failed"])
    run(api, State.SUCCESS)
    assert not WebhookDelivery.objects.exists()
    api.post(f"/api/datasets/{dataset.slug}/retry/")
    with transaction.atomic():
        run(api, State.FAIL)
        assert WebhookDelivery.objects.count() == 1
        transaction.set_rollback(True)
    assert not WebhookDelivery.objects.exists()
    api.patch(f"{HOOKS}{hook.pk}/", {"active": False}, format="json")
    run(api, State.FAIL)
    assert not WebhookDelivery.objects.exists()


def test_a_receiver_that_is_down_or_refuses_is_tried_again_then_given_up_then_sent_again_by_hand(
    api: APIClient, dataset: Dataset, secret: str, listener: Receiver, client: Client, alice: User
) -> None:
    up = listener.url
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        Webhook.objects.update(url=f"http://127.0.0.1:{reserved.getsockname()[1]}/")
        run(api, State.FAIL)
        deliver()
    row = WebhookDelivery.objects.get()
    assert (row.attempts, row.answer, row.given_up) == (1, None, False)
    assert row.problem == "The host does not answer."
    assert row.next_try is not None
    assert dt.timedelta(seconds=50) < row.next_try - timezone.now() <= dt.timedelta(minutes=1)
    Webhook.objects.update(url=up)
    listener.answer, listener.location = 307, up
    for _ in webhooks.BACKOFF:
        later(seconds=1)
        deliver()
    row.refresh_from_db()
    assert (row.attempts, row.answer, row.given_up) == (7, 307, True)
    assert len(listener.got) == 6, "a redirect was followed"
    client.force_login(alice)
    page = "/projects/birds/webhooks"
    assert "given up, answered 307" in client.get(page).content.decode()
    listener.answer = 200
    client.post(page, {"again": row.pk})
    deliver()
    row.refresh_from_db()
    assert (row.attempts, row.answer, row.delivered_at is not None) == (1, 200, True)
    assert {got.headers["X-Crunch-Delivery"] for got in listener.got} == {str(row.pk)}


def test_a_receiver_that_never_answers_holds_up_nobody_else(
    api: APIClient, dataset: Dataset, secret: str, listener: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sending, "TOTAL_S", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/"
        assert api.post(HOOKS, {"url": url, "events": ["failed"]}, format="json").status_code == 201
        run(api, State.FAIL)
        deliver()
    assert len(listener.got) == 1
    assert WebhookDelivery.objects.get(webhook__url=url).problem == "No answer in 0.5 s."


@pytest.mark.parametrize("private", [True, False])
def test_a_name_that_nobody_knows_is_told_in_plain_words(private: bool) -> None:
    # Longer than a part of a name may be: no other machine is asked.
    letter = sending.Letter(1, f"http://{'x' * 64}.example/", "secret", "failed", "{}")
    [outcome] = sending.send([letter], sending.trust(), private=private)
    assert outcome == sending.Outcome(problem="The host's name is not known.")


def test_two_processes_take_a_delivery_once(database: None) -> None:
    from server.services import catalogue

    alice = Actor(User.objects.get(username="alice"))
    hook = webhooks.create(alice, catalogue.create_project(name="Birds"), "https://example.org/", ["failed"])
    WebhookDelivery.objects.create(webhook=hook, event="failed", dataset="x", body="{}", next_try=timezone.now())
    seen = WebhookDelivery.objects.select_related("webhook").get()
    assert [row.pk for row in webhooks.take_due(20)] == [seen.pk]
    assert webhooks.take_due(20) == []
    assert not webhooks._take(seen, timezone.now()), "it was read before the other one took it"
    # Sent again by hand while it was under way: the late outcome of the first attempt is not the second's.
    late = WebhookDelivery.objects.get()
    webhooks.send_again(alice, late)
    webhooks.note_outcome(late, sending.Outcome(500))
    late.refresh_from_db()
    assert (late.attempts, late.answer) == (0, None)


@pytest.mark.parametrize(
    "url",
    [
        "ftp://example.org/",
        "javascript:alert(1)",
        "https://",
        "https://user:pw@example.org/",
        "http://localhost/",
        "http://127.0.0.1:5432/",
        "http://[::1]/",
        "http://[::ffff:10.0.0.1]/",
        "http://169.254.169.254/latest/",
        "http://10.1.2.3/",
        "http://2130706433/",
        "http://0x7f.1/",
        "https://example.org:99999/",
        "https://exa mple.org/",
    ],
)
def test_an_address_inside_or_none_at_all_is_refused(api: APIClient, project: Project, url: str) -> None:
    refused = api.post(HOOKS, {"url": url, "events": ["failed"]}, format="json")
    assert (refused.status_code, refused.json().get("code")) == (400, "bad_address")


@pytest.mark.parametrize("host", ["localhost", "127.1", "0x7f000001", "2130706433"])
def test_a_name_that_leads_inside_is_not_called(
    api: APIClient, dataset: Dataset, secret: str, listener: Receiver, settings: Any, host: str
) -> None:
    settings.WEBHOOKS_PRIVATE = False
    Webhook.objects.update(url=listener.url.replace("127.0.0.1", host))
    run(api, State.FAIL)
    deliver()
    row = WebhookDelivery.objects.get()
    assert listener.got == []
    assert "which is not of the open network" in row.problem


def test_the_page_adds_shows_the_secret_once_stops_and_removes(client: Client, alice: User, project: Project) -> None:
    client.force_login(alice)
    page = "/projects/birds/webhooks"
    made = client.post(page, {"url": "https://example.org/<b>", "events": ["failed"]}).content.decode()
    hook = Webhook.objects.get()
    assert hook.secret in made
    assert "<b>" not in made
    shown = client.get(page).content.decode()
    assert hook.secret not in shown
    assert "https://example.org/&lt;b&gt;" in shown
    client.post(page, {"stop": hook.pk})
    assert not Webhook.objects.get().active
    client.post(page, {"remove": hook.pk})
    assert not Webhook.objects.exists()
    client.post(page, {"remove": "9" * 40})
    client.post(page, {"url": "https://example.org/"})
    text = client.get(page).content.decode()
    assert "There is no such webhook" in text
    assert "Choose at least one" in text
    acts = ["remove webhook", "edit webhook", "make webhook"]
    assert list(Change.objects.values_list("act", flat=True)) == acts


def test_the_trail_names_no_more_of_an_address_than_its_host(api: APIClient, project: Project) -> None:
    address = "https://example.org:8443/hook/SECRET?key=SECRET#SECRET"
    made = api.post(HOOKS, {"url": address, "events": ["failed"]}, format="json").json()
    # From before such addresses were refused.
    Webhook.objects.update(url=address.replace("//", "//alice:SECRET@"))
    api.patch(f"{HOOKS}{made['id']}/", {"active": False}, format="json")
    api.delete(f"{HOOKS}{made['id']}/")
    trail = api.get("/api/projects/birds/changes/")
    assert [change["target"] for change in trail.json()["results"]] == ["https://example.org:8443"] * 3
    assert "SECRET" not in trail.content.decode()


def test_without_webhooks_the_last_status_asks_for_them_once(api: APIClient, dataset: Dataset) -> None:
    from django.db import connection
    from django.test.utils import CaptureQueriesContext

    with CaptureQueriesContext(connection) as captured:
        run(api, State.SUCCESS)
    assert len([query for query in captured.captured_queries if "webhook" in query["sql"]]) == 1


@long
@pytest.mark.slow
def test_what_a_killed_server_has_not_sent_the_next_one_sends(tmp_path: Path) -> None:
    private = {"CRUNCH_WEBHOOKS_PRIVATE": "1"}
    dies = {VARIABLE: f"{Point.STATUS_TAKEN}:1"}
    with (
        receiver() as listener,
        crunch_server(tmp_path / "server", environment={**private, **dies}, users=("alice",)) as server,
    ):
        with CrunchClient(server.url, server.tokens["alice"], patience_s=0) as client:
            client.create_project(name="Birds", workflow="true\n")
            client.create_dataset(parent="birds", name="One")
            hook = {"url": listener.url, "events": ["failed"]}
            made = server.client().post(HOOKS, json=hook).json()
            held = client.claim(ClaimRequest("once", project="birds"))
            assert held is not None
            ours = {"site": held.site, "claim": held.claim, "fence": held.fence, "dataset": held.dataset["id"]}
            with pytest.raises(ServerUnavailable):
                client.post_status(StatusEvent("e", **ours, stage=Stage.SETUP, state=State.FAIL))
        assert server.process is not None
        assert server.process.wait(10) == -signal.SIGKILL
        server.environment = private
        server.start()
        [got] = until(lambda: listener.got, what="the delivery")
        assert is_signed(got, made["secret"])
        deliveries = "/api/projects/birds/deliveries/"
        [row] = server.client().get(deliveries).json()["results"]
        until(lambda: server.client().get(deliveries).json()["results"][0]["delivered_at"], what="its note")
        assert json.loads(got.body)["dataset"] == row["dataset"] == "birds:one"
