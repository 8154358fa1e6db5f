"""The cast: alice owns what happens, bob is a colleague, both of the staff; a stranger has no token. And a project."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.management import call_command
from django.db import connections
from django.db.models.signals import pre_save
from django.db.utils import ConnectionHandler
from django.test import Client
from rest_framework.test import APIClient

from server.models import Dataset, Project
from server.services import catalogue
from server.site import environment
from tests.support.calls import signed_in
from tests.support.servers import Postgres, postgres

# Read when it is first needed, so it is in time here; without it the tests would leave a data folder behind.
os.environ.setdefault("CRUNCH_SECRET_KEY", "only-for-tests")


@pytest.fixture
def alice(db: None) -> User:
    return User.objects.create_user("alice", is_staff=True)


@pytest.fixture
def bob(db: None) -> User:
    return User.objects.create_user("bob", is_staff=True)


@pytest.fixture
def api(alice: User) -> APIClient:
    """Alice's client."""
    return signed_in(alice)


@pytest.fixture
def visitor(db: None) -> Client:
    """A browser in which nobody is signed in."""
    return Client()


@pytest.fixture
def browser(alice: User) -> Client:
    """Alice's browser."""
    client = Client()
    client.force_login(alice)
    return client


@pytest.fixture
def bobs_api(bob: User) -> APIClient:
    return signed_in(bob)


@pytest.fixture
def stranger() -> APIClient:
    return APIClient()


@pytest.fixture
def project(db: None) -> Project:
    return catalogue.create_project(name="Birds", workflow="#!/bin/bash\necho hi\n")


@pytest.fixture
def dataset(project: Project) -> Dataset:
    return catalogue.create_dataset(project, name="One")


@pytest.fixture
def storage_folder(settings: Any, tmp_path: Path) -> Path:
    """The folder that is the server's storage."""
    found = tmp_path / "storage"
    options = {"location": str(found), "allow_overwrite": True}
    default = {"BACKEND": "django.core.files.storage.FileSystemStorage", "OPTIONS": options}
    settings.STORAGES = {**settings.STORAGES, "default": default}
    return found


@pytest.fixture
def folder(storage_folder: Path, dataset: Dataset) -> Path:
    """The dataset's folder in the storage."""
    found = storage_folder / dataset.base_file_path
    found.mkdir(parents=True)
    return found


@pytest.fixture
def meanwhile(dataset: Dataset) -> Iterator[dict[str, Any]]:
    """What somebody else sets on the dataset between the reading of its row and the next save."""
    values: dict[str, Any] = {}

    def set_values(**_: Any) -> None:
        Dataset.objects.filter(pk=dataset.pk).update(**values)

    pre_save.connect(set_values, sender=Dataset)
    yield values
    pre_save.disconnect(set_values, sender=Dataset)


@pytest.fixture(scope="session")
def cluster() -> Iterator[Postgres]:
    with postgres() as running:
        yield running


@pytest.fixture(params=["sqlite", "postgresql"])
def database(
    request: pytest.FixtureRequest,
    tmp_path: Any,
    monkeypatch: pytest.MonkeyPatch,
    django_db_blocker: Any,
) -> Iterator[None]:
    """A database as the server's own, with its tables and two people, in place of the tests' one."""
    url = f"sqlite:///{tmp_path / 'db.sqlite3'}"
    if request.param == "postgresql":
        url = request.getfixturevalue("cluster").new_database()
    monkeypatch.setenv("CRUNCH_DATABASE_URL", url)
    ours = connections["default"]
    with django_db_blocker.unblock():
        connections["default"] = ConnectionHandler({"default": environment.database()})["default"]
        try:
            call_command("migrate", verbosity=0)
            if connections["default"].vendor == "postgresql":
                # Nobody pulls the plug here, and to wait for the disk takes most of the time.
                connections["default"].cursor().execute("SET synchronous_commit TO off")
            for name in ("alice", "bob"):
                User.objects.create_user(name, is_staff=True)
            yield
        finally:
            connections["default"].close()
            if connections["default"].vendor == "postgresql":
                connections["default"].close_pool()
            connections["default"] = ours
