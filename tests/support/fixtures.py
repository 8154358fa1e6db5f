"""Fixtures of a whole Crunch site, for the folders of tests that need one: a conftest imports what it takes.

All servers are real and start once a session. Each test finds a Crunch server with nothing but its users and a storage
without a file: on a folder always the same server, restored, on S3 one of its own.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from deployments.local import free_port, prefect_server
from tests.support.forks import Forks
from tests.support.seaweed import SeaweedS3, seaweed
from tests.support.servers import CrunchServer, postgres
from tests.support.site import Site


def on_one_worker(items: list[pytest.Item], folder: Path) -> None:
    """Mark all tests of `folder` as slow ones that need servers, and give them one worker, so that these start once."""
    for item in items:
        if folder in item.path.parents:
            item.add_marker(pytest.mark.slow)
            item.add_marker(pytest.mark.xdist_group(folder.name))


@pytest.fixture(scope="session")
def prefect_api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    port = free_port()
    home = tmp_path_factory.mktemp("prefect")
    # On SQLite it stalls now and then when several clients write at once, for a minute.
    with postgres() as cluster, prefect_server(home, port, database=cluster.new_database()) as service:
        service.wait()
        yield f"http://127.0.0.1:{port}/api"


@pytest.fixture(scope="session")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SeaweedS3]:
    with seaweed(tmp_path_factory.mktemp("seaweed")) as running:
        yield running


@pytest.fixture(params=["folder"])
def storage_settings(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """The storage settings file; `folder`, or `s3` where a test asks for it by parametrizing this fixture."""
    if request.param == "s3":
        return write_storage_settings(tmp_path, request.getfixturevalue("s3"))
    shared: Site = request.getfixturevalue("shared_site")
    return shared.storage_settings


def write_storage_settings(folder: Path, s3: SeaweedS3 | None) -> Path:
    """The settings file of a storage of its own: a bucket of `s3`, or else a folder."""
    path = folder / "storage.toml"
    if s3 is None:
        (folder / "storage").mkdir()
        path.write_text(f'MEDIA_ROOT = "{folder / "storage"}"\n')
    else:
        path.write_text(s3.toml(s3.make_bucket("site"), location=folder.name))
    return path


@pytest.fixture(scope="session")
def fresh_server(tmp_path_factory: pytest.TempPathFactory) -> CrunchServer:
    """A server with its tables and users made, to be copied: making them takes longer than most tests."""
    server = CrunchServer(tmp_path_factory.mktemp("fresh") / "server")
    server.folder.mkdir()
    server.manage("migrate", "--verbosity", "0")
    server.add_users("alice", "bob")
    return server


@pytest.fixture(scope="session")
def forks() -> Iterator[Forks]:
    made = Forks()
    yield made
    made.close()


@pytest.fixture(scope="session")
def shared_site(
    tmp_path_factory: pytest.TempPathFactory, prefect_api: str, fresh_server: CrunchServer, forks: Forks
) -> Iterator[Site]:
    """On a folder, for one test after the other: to start a server takes longer than most tests."""
    folder = tmp_path_factory.mktemp("shared")
    with running_site(folder, write_storage_settings(folder, None), prefect_api, fresh_server, forks) as running:
        yield running


@pytest.fixture
def site(
    tmp_path: Path,
    storage_settings: Path,
    prefect_api: str,
    fresh_server: CrunchServer,
    forks: Forks,
    shared_site: Site,
) -> Iterator[Site]:
    if storage_settings != shared_site.storage_settings:
        with running_site(tmp_path, storage_settings, prefect_api, fresh_server, forks) as running:
            yield running
        return
    server = shared_site.server
    server.restore(fresh_server)
    if not server.runs:
        # A test has killed it.
        server.start()
    storage = storage_settings.with_name("storage")
    shutil.rmtree(storage)
    storage.mkdir()
    yield replace(shared_site, directory=tmp_path / "work", environment={"PREFECT_HOME": str(tmp_path / "prefect")})


@contextmanager
def running_site(
    folder: Path, storage_settings: Path, prefect_api: str, fresh_server: CrunchServer, forks: Forks
) -> Iterator[Site]:
    """A site with a server of its own, which keeps all that it has in `folder`."""
    shutil.copytree(fresh_server.folder, folder / "server")
    server = CrunchServer(folder / "server", storage_settings=storage_settings, tokens=dict(fresh_server.tokens))
    server.start()
    try:
        home = {"PREFECT_HOME": str(folder / "prefect")}
        yield Site(server, storage_settings, folder / "work", prefect_api, home, forks)
    finally:
        server.stop()
