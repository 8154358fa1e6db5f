"""The connection to Prefect's server that one flow run leaves to the next one in its context."""

from __future__ import annotations

from prefect.client.orchestration import SyncPrefectClient
from prefect.context import SyncClientContext
from prefect.settings import PREFECT_API_URL, temporary_settings

from flows.kept_client import Contexts, keep_client


def test_a_thread_gets_the_connection_of_the_one_before_it_and_no_two_share_one(prefect_api: str) -> None:
    with temporary_settings({PREFECT_API_URL: prefect_api}):
        contexts = Contexts()

        def client() -> SyncPrefectClient:
            keep_client()
            held = SyncClientContext.get()
            assert held is not None
            assert held.client.api_healthcheck() is None
            return held.client

        first, second = contexts.take(), contexts.take()
        one, two = first.run(client), second.run(client)
        assert one is not two
        contexts.give_back(first)
        assert contexts.take().run(client) is one
        contexts.give_back(first)
        contexts.close()
        assert "closed" in str(one.api_healthcheck())
        assert two.api_healthcheck() is None
        contexts.give_back(second)
        contexts.close()
        assert SyncClientContext.get() is None
