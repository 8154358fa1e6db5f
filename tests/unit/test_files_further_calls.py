"""The calls to object stores that go through the client of the Django storage."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

from crunch_tasks.files.further_calls import s3_client


class Storage:
    """Makes a client each time that it is asked for a connection."""

    @property
    def connection(self) -> Any:
        return SimpleNamespace(meta=SimpleNamespace(client=object()))


def test_all_threads_share_one_client_of_a_storage() -> None:
    one, other = Storage(), Storage()
    with ThreadPoolExecutor(4) as threads:
        clients = set(threads.map(s3_client, [one] * 8))
    assert clients == {s3_client(one)}
    assert s3_client(other) is not s3_client(one)
