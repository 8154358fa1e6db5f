"""From the server's answer to its JSON, or to the error that says what to do."""

from __future__ import annotations

from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import Any, NamedTuple

import httpx

from crunch_tasks.errors import Refused, ServerError, ServerUnavailable, Unauthorized

BUSY = frozenset({408, 425, 429})
"""Statuses of the 4xx that pass by themselves."""


class Options(NamedTuple):
    """How a person gives a server's address and token, for the errors that ask to look there."""

    url: str
    token: str


USUAL = Options("--url", "CRUNCH_TOKEN or --token")


def body_of(response: httpx.Response, url: str, options: Options) -> Any:
    """The answer's JSON, None for 204. Raises as the table of `client` says; `url` is the server's address."""
    status = response.status_code
    if status == 204:
        return None
    if response.is_redirect:
        target = response.headers.get("location", "nowhere")
        raise ServerError(
            f"The server at {url} redirects to {target}. If that is your server, give its address as {options.url}."
        )
    if status == 401:
        raise Unauthorized(f"The server at {url} does not accept the token. Check {options.token}.")
    if status in BUSY or status >= 500:
        raise ServerUnavailable(f"The server at {url} answers {status}.", retry_after_s(response))
    try:
        body = response.json()
    except ValueError:
        body = None
    if response.is_success and body is not None:
        return body
    if isinstance(body, dict | list) and not response.is_success:
        code = body.get("code", "") if isinstance(body, dict) else ""
        raise Refused(sentence(body) or f"The server answers {status}.", status, str(code), body)
    raise ServerError(f"{response.url} answers {status} without JSON. Is there a Crunch server at {url}?")


def sentence(problem: Any) -> str:
    """A problem's `detail`, or the errors of its fields as one line: `name: This field is required.`"""
    if isinstance(problem, Mapping):
        if isinstance(problem.get("detail"), str):
            return str(problem["detail"])
        parts = []
        for name, value in problem.items():
            text = sentence(value)
            parts.append(text if name == "non_field_errors" else f"{name}: {text}")
        return " ".join(parts)
    if isinstance(problem, list):
        return " ".join(text for text in map(sentence, problem) if text)
    return str(problem)


def retry_after_s(response: httpx.Response) -> float | None:
    """The seconds of a Retry-After header, given as a number or a date; None without a usable one."""
    value = response.headers.get("retry-after", "").strip()
    if value.isdecimal():
        return float(value)
    try:
        until = parsedate_to_datetime(value)
        # By the server's clock: this machine's may be days off.
        now = parsedate_to_datetime(response.headers["date"])
        return max(0.0, (until - now).total_seconds())
    except (KeyError, ValueError, TypeError):
        return None
