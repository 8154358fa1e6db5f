"""A project's workflow that is kept elsewhere, at a web address."""

from __future__ import annotations

import time

import httpx

from crunch_tasks.errors import ServerError, ServerUnavailable

MAX_BYTES = 1024 * 1024
TIMEOUT_S = 30.0
"""For each step of an answer, in seconds."""
TOTAL_S = 60.0
"""For the whole of it: a host may drip."""


def fetch_workflow(address: str) -> bytes:
    """The bytes at a web address; Crunch's token is not sent there.

    Raises ServerUnavailable when a retry may help, ServerError otherwise, also for more than MAX_BYTES.
    """
    deadline = time.monotonic() + TOTAL_S
    try:
        with httpx.stream("GET", address, follow_redirects=True, timeout=TIMEOUT_S) as answer:
            if answer.status_code != httpx.codes.OK:
                unavailable = answer.status_code >= httpx.codes.INTERNAL_SERVER_ERROR
                kind = ServerUnavailable if unavailable else ServerError
                raise kind(f"The workflow cannot be fetched: {address} answers {answer.status_code}.")
            content = b""
            for block in answer.iter_bytes():
                content += block
                if time.monotonic() > deadline:
                    raise ServerUnavailable(f"The workflow at {address} did not come within {TOTAL_S:g} s.")
                if len(content) > MAX_BYTES:
                    raise ServerError(f"The workflow at {address} is larger than {MAX_BYTES} bytes.")
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise ServerUnavailable(f"The workflow cannot be fetched from {address}: {error}") from error
    return content
