"""Real servers for the acceptance tests: Prefect and S3 once a session, a Crunch server and a storage for each test."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from deployments.local import free_port, prefect_server
from flows import cli
from tests.support.seaweed import SeaweedS3, seaweed
from tests.support.servers import CrunchServer
from tests.support.site import Site

Answer = tuple[int, str, str]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """All of this folder needs servers, and one worker, so that they start once."""
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.slow)
            item.add_marker(pytest.mark.xdist_group("acceptance"))


@pytest.fixture(scope="session")
def prefect_api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    port = free_port()
    with prefect_server(tmp_path_factory.mktemp("prefect"), port) as service:
        service.wait()
        yield f"http://127.0.0.1:{port}/api"


@pytest.fixture(scope="session")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SeaweedS3]:
    with seaweed(tmp_path_factory.mktemp("seaweed")) as running:
        yield running


@pytest.fixture(params=["folder"])
def storage_settings(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """The storage settings file; `folder`, or `s3` where a test asks for it by parametrizing this fixture."""
    path = tmp_path / "storage.toml"
    if request.param == "folder":
        (tmp_path / "storage").mkdir()
        path.write_text(f'MEDIA_ROOT = "{tmp_path / "storage"}"\n')
    else:
        s3: SeaweedS3 = request.getfixturevalue("s3")
        path.write_text(s3.toml(s3.make_bucket("acceptance"), location=tmp_path.name))
    return path


@pytest.fixture(scope="session")
def fresh_server(tmp_path_factory: pytest.TempPathFactory) -> CrunchServer:
    """A server with its tables and users made, to be copied: making them takes longer than most tests."""
    server = CrunchServer(tmp_path_factory.mktemp("fresh") / "server")
    server.folder.mkdir()
    server.manage("migrate", "--verbosity", "0")
    server.add_users("alice", "bob")
    return server


@pytest.fixture
def site(tmp_path: Path, storage_settings: Path, prefect_api: str, fresh_server: CrunchServer) -> Iterator[Site]:
    folder = tmp_path / "server"
    shutil.copytree(fresh_server.folder, folder)
    server = CrunchServer(folder, storage_settings=storage_settings, tokens=dict(fresh_server.tokens))
    server.start()
    yield Site(server, storage_settings, tmp_path / "work", prefect_api, {"PREFECT_HOME": str(tmp_path / "prefect")})
    server.stop()


@pytest.fixture
def crunch(site: Site, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Answer]:
    """`crunch WORDS` in this process, against the real server: its exit code, output and error output."""
    for name, value in site.env.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr(cli.signal, "signal", lambda *_: None)

    def call(*words: str) -> Answer:
        monkeypatch.setattr(sys, "argv", ["crunch", *words])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        said = capsys.readouterr()
        return int(ended.value.code or 0), said.out, said.err

    return call
