"""Real servers for the acceptance tests, and the `crunch` command in this process."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from flows import cli
from tests.support.fixtures import (
    forks,
    fresh_server,
    on_one_worker,
    prefect_api,
    s3,
    shared_site,
    site,
    storage_settings,
)
from tests.support.site import Site

__all__ = ["forks", "fresh_server", "prefect_api", "s3", "shared_site", "site", "storage_settings"]

Answer = tuple[int, str, str]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    on_one_worker(items, Path(__file__).parent)


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
