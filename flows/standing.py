"""The standing Prefect server that PREFECT_API_URL names, for what makes no sense on one that ends with its command."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import httpx
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.exceptions import PrefectHTTPStatusError
from prefect.settings import PREFECT_API_URL

from crunch_tasks.errors import CrunchError, UsageError


@contextmanager
def standing_prefect() -> Iterator[SyncPrefectClient]:
    """A client of it. Raises UsageError when none is named, CrunchError when it does not answer or says no."""
    address = PREFECT_API_URL.value()
    if not address:
        raise UsageError(
            "No Prefect server is named. Set PREFECT_API_URL, such as http://prefect.example.org:4200/api."
        )
    with get_client(sync_client=True) as client:
        check_answers(client, address)
        try:
            yield client
        except PrefectHTTPStatusError as error:
            said = error.response.text[:500]
            raise CrunchError(f"The Prefect server says no ({error.response.status_code}): {said}") from error
        except httpx.TransportError as error:
            raise CrunchError(f"The Prefect server at {address} does not answer any more: {error}") from error


def check_answers(client: SyncPrefectClient, address: str) -> None:
    """Raises CrunchError when the Prefect server does not answer."""
    problem = client.api_healthcheck()
    if problem is not None:
        raise CrunchError(
            f"The Prefect server at {address}, which PREFECT_API_URL names, does not answer ({problem}). Start one "
            "here with `crunch up`, which brings a Crunch server and a worker too, and source the file that it "
            "names; or start yours with `prefect server start`; or unset PREFECT_API_URL to run without one."
        )
