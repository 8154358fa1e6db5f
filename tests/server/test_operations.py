"""What operators see of a real server process: health, readiness."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator

import httpx
import pytest
from django.test import Client

from server.operations import health
from tests.support.servers import CrunchServer, crunch_server

LAST = "auth", "0012_alter_user_first_name_max_length"
STORAGE_SECRET = "canary-storage-secret"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CrunchServer]:
    folder = tmp_path_factory.mktemp("operated")
    (folder / "storage").mkdir()
    settings = folder / "storage.toml"
    settings.write_text(f'MEDIA_ROOT = "{folder / "storage"}"\n')
    with crunch_server(folder / "server", storage_settings=settings, users=("alice", "admin")) as running:
        yield running


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
