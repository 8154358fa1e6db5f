"""What operators see of a real server process: health, readiness, metrics, logs, and sign-in by many."""

from __future__ import annotations

import json
import logging
import re
import sqlite3
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from django.contrib.auth.models import User
from django.test import Client
from prometheus_client.parser import text_string_to_metric_families
from pytest_django import DjangoAssertNumQueries
from rest_framework.test import APIClient

from crunch_tasks.contract import Stage, State
from server.models import Dataset
from server.operations import health, logs
from server.operations.sign_in import LIMIT
from server.services import catalogue
from tests.support.calls import claim, expire, signed_in, status
from tests.support.depth import long
from tests.support.servers import CrunchServer, crunch_server

SECRET_KEY = "canary-secret-key"
LAST = "auth", "0012_alter_user_first_name_max_length"

Sample = tuple[str, tuple[tuple[str, str], ...]]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CrunchServer]:
    folder = tmp_path_factory.mktemp("operated")
    (folder / "storage").mkdir()
    settings = folder / "storage.toml"
    settings.write_text(f'MEDIA_ROOT = "{folder / "storage"}"\n')
    environment = {
        "PROMETHEUS_MULTIPROC_DIR": str(folder / "metrics"),
        "CRUNCH_LOG_FORMAT": "json",
        "CRUNCH_SECRET_KEY": SECRET_KEY,
    }
    with crunch_server(
        folder / "server", storage_settings=settings, environment=environment, users=("alice", "admin")
    ) as running:
        yield running


@pytest.fixture(scope="module")
def second(server: CrunchServer) -> Iterator[CrunchServer]:
    """Another process of the same server."""
    other = CrunchServer(server.folder, server.database_url, server.storage_settings, server.environment)
    other.tokens = server.tokens
    other.start()
    yield other
    other.stop()


@pytest.fixture
def staff(db: None) -> APIClient:
    return signed_in(User.objects.create_user("operator", is_staff=True))


def samples(text: str) -> dict[Sample, float]:
    """The value of each line of the metrics, by its name and labels."""
    lines = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
    return {(line.name, tuple(sorted(line.labels.items()))): line.value for line in lines}


def measured(client: APIClient | httpx.Client) -> dict[Sample, float]:
    answer = client.get("/metrics/")
    assert (answer.status_code, answer.headers["Content-Type"].split(";")[0]) == (200, "text/plain")
    return samples(answer.content.decode())


def test_a_live_process_says_so_without_its_database() -> None:
    # Outside a test of the database, any query raises.
    answer = Client().get("/healthz/")
    assert (answer.status_code, answer.json()) == (200, {"status": "ok"})
    assert "no-store" in answer["Cache-Control"]
    assert Client().post("/healthz/").status_code == 405


@pytest.mark.slow
def test_a_server_is_ready_while_database_migrations_and_storage_are_as_they_should_be(server: CrunchServer) -> None:
    def ready() -> tuple[int, dict[str, str]]:
        answer = httpx.get(f"{server.url}/readyz/", timeout=30)
        assert str(server.folder) not in answer.text
        return answer.status_code, answer.json()

    good = {"status": "ok", "database": "ok", "storage": "ok"}
    assert ready() == (200, good)

    storage = server.folder.parent / "storage"
    storage.rename(storage.with_name("away"))
    code, said = ready()
    assert (code, said["database"], said["storage"][:20]) == (503, "ok", "The storage does not")
    storage.with_name("away").rename(storage)

    file = server.folder / "crunch.sqlite3"
    with sqlite3.connect(file) as database:
        database.execute("DELETE FROM django_migrations WHERE app = ? AND name = ?", LAST)
    code, said = ready()
    assert (code, said["storage"]) == (503, "ok")
    assert ".".join(LAST) in said["database"]
    with sqlite3.connect(file) as database:
        database.execute("INSERT INTO django_migrations (app, name, applied) VALUES (?, ?, '2026-01-01')", LAST)

    assert ready() == (200, good)
    assert "is not there" in server.log.read_text()


def test_a_part_that_hangs_is_named_and_holds_one_thread_however_often_it_is_asked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    over, asked = threading.Event(), []

    def hang() -> str:
        asked.append(threading.current_thread())
        over.wait()
        return ""

    monkeypatch.setattr(health, "TIMEOUT_S", 0.01)
    monkeypatch.setattr(health, "PARTS", (health.Part("storage", hang),))
    for _ in range(5):
        answer = Client().get("/readyz/")
        assert (answer.status_code, "did not answer within" in answer.json()["storage"]) == (503, True)
    assert len(asked) == 1
    over.set()


def test_the_metrics_tell_datasets_and_claims(
    staff: APIClient, api: APIClient, dataset: Dataset, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    two = catalogue.create_dataset(dataset.project, name="Two")
    first = claim(api).json()
    status(api, first, Stage.SETUP, State.FAIL)
    claim(api)
    expire(two.pk)
    with django_assert_num_queries(4):
        found = measured(staff)
    assert found["crunch_datasets", (("project", "birds"), ("state", "failed"))] == 1
    assert found["crunch_datasets", (("project", "birds"), ("state", "running"))] == 1
    assert found["crunch_leases_expired", ()] == 1
    assert found["crunch_claims_granted_total", ()] == 2
    assert found["crunch_claims_ended_total", (("reason", "failed"),)] == 1
    assert found["crunch_claims_ended_total", (("reason", "expired"),)] == 0
    claim(api)
    assert measured(staff)["crunch_claims_ended_total", (("reason", "expired"),)] == 1
    # What was granted and lost stays so, also when nothing of it is there any more.
    dataset.project.delete()
    found = measured(staff)
    assert (found["crunch_claims_granted_total", ()], "birds" in str(found)) == (3, False)


def test_the_metrics_tell_requests_by_route_and_how_long_statuses_take(
    staff: APIClient, api: APIClient, dataset: Dataset
) -> None:
    before = measured(staff)
    status(api, claim(api).json(), Stage.SETUP, State.START)
    assert api.generic("BREW", "/projects/birds/").status_code == 405
    after = measured(staff)

    def more(name: str, **labels: str) -> float:
        sample = name, tuple(sorted(labels.items()))
        return after.get(sample, 0) - before.get(sample, 0)

    assert more("crunch_requests_total", route="crunch:api:statuses", method="POST", code="201") == 1
    assert more("crunch_requests_total", route="crunch:api:claims", method="POST", code="201") == 1
    assert more("crunch_requests_total", route="crunch:project", method="other", code="405") == 1
    assert more("crunch_status_seconds_count") == more("crunch_status_seconds_bucket", le="+Inf") == 1


def test_only_staff_may_read_the_metrics(stranger: APIClient, staff: APIClient) -> None:
    member = signed_in(User.objects.create_user("member"))
    assert [client.get("/metrics/").status_code for client in (stranger, member, staff)] == [401, 403, 200]
    # As Prometheus asks.
    accept = "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.4"
    assert staff.get("/metrics/", HTTP_ACCEPT=accept).status_code == 200


@long
@pytest.mark.slow
def test_each_process_of_a_server_tells_the_requests_of_all(server: CrunchServer, second: CrunchServer) -> None:
    posted: Sample = ("crunch_requests_total", (("code", "400"), ("method", "POST"), ("route", "crunch:api:statuses")))
    with server.client("admin") as one, second.client("admin") as other:
        for client in (one, other, other):
            assert client.post("/api/statuses/", json={}).status_code == 400
        assert measured(one)[posted] == measured(other)[posted] == 3
        assert measured(one)["crunch_status_seconds_count", ()] == 3


def log_lines(server: CrunchServer) -> list[dict[str, Any]]:
    """All that the server wrote to standard error; each line must be JSON."""
    return [json.loads(line) for line in server.log.read_text().splitlines()]


@pytest.mark.slow
def test_the_log_has_a_json_line_for_each_request_and_no_secret(server: CrunchServer) -> None:
    token = server.tokens["alice"]
    with server.client("alice") as alice:
        given = alice.get("/api/next/", headers={"X-Request-ID": "of-the-proxy"})
        assert given.headers["X-Request-ID"] == "of-the-proxy"
        lost = alice.get(f"/projects/none/?token={token}", headers={"X-Request-ID": 'bad " one'})
        # A token where it does not belong, such as in an address that is not there.
        assert alice.get(f"/api/{token}/").status_code == 404
        page = alice.get("/accounts/login/")
        form = {"username": "alice", "password": "canary-password", "csrfmiddlewaretoken": page.cookies["csrftoken"]}
        assert alice.post("/accounts/login/", data=form).status_code == 200
    lines = log_lines(server)
    by_request = {
        request: [line for line in lines if line["request"] == request]
        for request in ("of-the-proxy", lost.headers["X-Request-ID"])
    }
    [line] = by_request["of-the-proxy"]
    assert 0 < line.pop("seconds") < 60
    assert line.pop("time").endswith("+00:00")
    assert line == {
        "level": "INFO",
        "logger": "server.operations.requests",
        "message": "GET crunch:api:next 200",
        "request": "of-the-proxy",
        "route": "crunch:api:next",
        "method": "GET",
        "user": "alice",
        "status": 200,
    }
    # Django's own line of a problem has the request's id too.
    assert {line["logger"] for line in by_request[lost.headers["X-Request-ID"]]} == {
        "server.operations.requests",
        "django.request",
    }
    written = server.log.read_text()
    assert not any(secret in written for secret in (token, "canary-password", SECRET_KEY))


@pytest.mark.parametrize("formatter", [logs.Text(), logs.JSONLines()])
def test_an_error_that_quotes_secrets_is_logged_without_them(
    formatter: logging.Formatter, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    token, storage_key, password = "0123456789abcdef" * 2 + "01234567", 'canary"key', "canary-password"
    options = {"bucket_name": "bucket", "secret_key": storage_key}
    settings.SECRET_KEY = SECRET_KEY
    settings.STORAGES = {"default": {"BACKEND": "storages.backends.s3.S3Storage", "OPTIONS": options}}
    monkeypatch.setitem(settings.DATABASES["default"], "PASSWORD", password)
    monkeypatch.setattr(logs, "_known", logs._known.__wrapped__)
    error = ValueError(f"{storage_key} {password} {SECRET_KEY} Authorization: Token {token}; {token}")
    message = "postgresql://me:other-word@host of bucket"
    record = logging.LogRecord("x", logging.ERROR, "x", 1, message, (), (ValueError, error, None))
    written = formatter.format(record)
    assert "bucket" in written and "ValueError" in written and "postgresql://me:" in written
    for secret in (token, "canary", "other-word"):
        assert secret not in written


@pytest.mark.slow
def test_guesses_at_once_and_at_several_processes_find_one_another(server: CrunchServer, second: CrunchServer) -> None:
    def guess(number: int) -> int:
        with httpx.Client(base_url=(server, second)[number % 2].url, timeout=60) as browser:
            form = {"username": f"guess{number}", "password": "wrong"}
            form["csrfmiddlewaretoken"] = browser.get("/accounts/login/").cookies["csrftoken"]
            return browser.post("/accounts/login/", data=form, headers={"X-Forwarded-For": "192.0.2.9"}).status_code

    with ThreadPoolExecutor(6) as pool:
        answers = Counter(pool.map(guess, range(LIMIT + 3)))
    assert answers[200] <= LIMIT
    assert answers[429] >= 3
    assert answers.total() == LIMIT + 3


@pytest.mark.slow
def test_the_documented_backup_of_a_running_server_is_whole(server: CrunchServer, tmp_path: Path) -> None:
    page = Path(__file__).parents[2] / "docs" / "operations.md"
    [command] = re.findall(r"^ {4}\.venv/bin/python -c \"(import sqlite3.*)\"$", page.read_text(), re.MULTILINE)
    (tmp_path / "crunch-data").symlink_to(server.folder)
    subprocess.run([sys.executable, "-c", command], cwd=tmp_path, check=True)
    with sqlite3.connect(tmp_path / "backup.sqlite3") as copy:
        assert copy.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        tokens = dict(
            copy.execute(
                "SELECT username, key FROM authtoken_token JOIN auth_user ON auth_user.id = user_id"
            ).fetchall()
        )
        triggers = copy.execute("SELECT count(*) FROM sqlite_master WHERE type = 'trigger'").fetchone()
    assert tokens == server.tokens
    assert triggers[0] >= 3
