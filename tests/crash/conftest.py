"""Real servers for the tests that kill, stop and cut."""

from __future__ import annotations

from pathlib import Path

import pytest

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

__all__ = ["forks", "fresh_server", "prefect_api", "s3", "shared_site", "site", "storage_settings"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    on_one_worker(items, Path(__file__).parent)
