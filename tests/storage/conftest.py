"""The storages that one suite runs over: a folder, S3, SFTP, Django's own, and the one in memory."""

from __future__ import annotations

import itertools
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from crunch_tasks.files import transfer
from crunch_tasks.files.opening import open_storage
from crunch_tasks.files.storage import Storage
from crunch_tasks.files.workspace import Workspace
from crunch_tasks.testing import MemoryStorage
from tests.support.seaweed import SeaweedS3, seaweed
from tests.support.sftp import sftp

KINDS = [
    "folder",
    "django folder",
    "django memory",
    "memory",
    pytest.param("s3", marks=pytest.mark.slow),
    pytest.param("sftp", marks=pytest.mark.slow),
]


@pytest.fixture(scope="session")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SeaweedS3]:
    with seaweed(tmp_path_factory.mktemp("seaweed")) as server:
        yield server


@pytest.fixture
def bucket(s3: SeaweedS3) -> str:
    return s3.make_bucket(f"crunch-{uuid.uuid4().hex[:12]}")


@pytest.fixture
def storage_of(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[[str], Storage]]:
    """Makes an empty storage of a kind."""
    servers = []

    def make(kind: str) -> Storage:
        place = tmp_path / "storage" / uuid.uuid4().hex
        config: dict[str, Any]
        if kind == "memory":
            return MemoryStorage()
        if kind == "folder":
            place.mkdir(parents=True)
            config = {"BACKEND": "django.core.files.storage.FileSystemStorage", "OPTIONS": {"location": str(place)}}
        elif kind == "django folder":
            config = {"BACKEND": "tests.support.storages.SiteStorage", "OPTIONS": {"location": str(place)}}
        elif kind == "django memory":
            config = {"BACKEND": "django.core.files.storage.InMemoryStorage"}
        elif kind == "s3":
            server = request.getfixturevalue("s3")
            config = server.storage(server.make_bucket(f"crunch-{uuid.uuid4().hex[:12]}"), "some/location")
        else:
            place.mkdir(parents=True)
            running = sftp(place)
            config = running.__enter__()
            servers.append(running)
        return open_storage(config)

    yield make
    for running in servers:
        running.__exit__(None, None, None)


@pytest.fixture(params=KINDS)
def storage(request: pytest.FixtureRequest, storage_of: Callable[[str], Storage]) -> Storage:
    return storage_of(request.param)


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transfer, "FIRST_PAUSE_S", 0.0)


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    made = Workspace(tmp_path / "work", "p:d1")
    made.make()
    return made


@pytest.fixture
def directories(tmp_path: Path) -> Iterator[Path]:
    return (tmp_path / f"machine-{number}" for number in itertools.count())
