"""The client of the server's API: one open connection, a retry where it can help, and an error for all else.

answer                                   raises
2xx with JSON, 204                       nothing
2xx without JSON, a redirect             ServerError: this is not the API of a Crunch server
401                                      Unauthorized
other 4xx with a JSON problem            Refused, with its sentence, status and code
other 4xx without                        ServerError: a proxy or another site said so, not Crunch
408, 425, 429, 5xx, no answer            ServerUnavailable, after trying again for `patience_s` seconds
"""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote, urlsplit

import httpx
from tenacity import (
    RetryCallState,
    Retrying,
    retry_if_exception,
    sleep_using_event,
    stop_before_delay,
    stop_when_event_set,
)

from crunch_tasks import __version__
from crunch_tasks.contract import LARGEST_PAGE, Claim, ClaimRequest, StatusEvent
from crunch_tasks.errors import ServerError, ServerUnavailable, UsageError
from crunch_tasks.link import backoff
from crunch_tasks.link.answers import USUAL, Options, body_of

log = logging.getLogger("crunch.server")

PATIENCE_S = 300.0
TIMEOUT = httpx.Timeout(30.0, connect=10.0)
LONGEST_WAIT_S = 30.0
BULK_TIMEOUT_S = 300.0
"""How long the answer to one call that makes many datasets may take."""


class CrunchClient:
    """Calls the server at `url` with `token`; safe to share among threads.

    Each call goes on asking a server that does not answer for `patience_s` seconds, with growing, random waits, or
    as the server's Retry-After says. Raises the errors of the table above; UsageError when `url` is no web address.
    `options` are what errors call the address and the token.
    """

    def __init__(
        self,
        url: str,
        token: str,
        *,
        patience_s: float = PATIENCE_S,
        timeout: httpx.Timeout = TIMEOUT,
        transport: httpx.BaseTransport | None = None,
        options: Options = USUAL,
    ) -> None:
        self.url = checked_url(url, options)
        self.options = options
        self.patience_s = patience_s
        self._claims_end = threading.Event()
        # Redirects are refused below, so that the token only ever goes to this address.
        self._http = httpx.Client(
            base_url=self.url + "/",
            headers={
                "Authorization": f"Token {checked_token(token, options)}",
                "Accept": "application/json",
                "User-Agent": f"crunch/{__version__}",
            },
            timeout=timeout,
            transport=transport,
            follow_redirects=False,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"CrunchClient({self.url!r})"

    def close(self) -> None:
        self._http.close()

    # --- claims ---

    def claim(self, request: ClaimRequest, *, patience_s: float | None = None) -> Claim | None:
        """The claim for this request, the same one again while it is current; None when nothing can be claimed."""
        ends = self._claims_end if patience_s is None else None
        body = self._call(
            "POST", "api/claims/", request.to_wire(), patience_s=patience_s, timeout_s=patience_s, ends=ends
        )
        if body is None:
            return None
        try:
            return Claim.from_wire(body)
        except (KeyError, TypeError, ValueError) as error:
            raise ServerError(f"The server at {self.url} answered a claim that cannot be read: {error!r}.") from error

    def claim_no_more(self) -> None:
        """Nobody wants a claim any more: one that is asked for of a server that does not answer is given up."""
        self._claims_end.set()

    def heartbeat(
        self,
        claim: int,
        fence: int,
        progress: Mapping[str, Any] | None = None,
        log_tail: str | None = None,
        *,
        timeout_s: float | None = None,
    ) -> Mapping[str, Any]:
        """Renew the lease, asking once: `{ttl_s, cancel}`. Refused with status 409 means that it is lost.

        `log_tail`, the last lines of the workflow's output, replaces what was told of it before.
        """
        body: dict[str, Any] = {"fence": fence}
        if progress is not None:
            body["progress"] = dict(progress)
        if log_tail is not None:
            body["log_tail"] = log_tail
        return self._object("POST", f"api/claims/{claim}/heartbeat/", body, patience_s=0, timeout_s=timeout_s)

    def release(self, claim: int, fence: int, reason: str, *, patience_s: float | None = None) -> None:
        """Give the dataset back unprocessed."""
        body = {"fence": fence, "reason": reason}
        self._call("POST", f"api/claims/{claim}/release/", body, patience_s=patience_s, timeout_s=patience_s)

    def cancel(self, claim: int) -> None:
        """Ask for the end of a run, as a person's Cancel button does."""
        self._call("POST", f"api/claims/{claim}/cancel/", {})

    # --- statuses ---

    def post_status(self, event: StatusEvent, *, patience_s: float | None = None) -> Mapping[str, Any]:
        """Post a status; its answer tells whether it was `effective`. Posting the same event again is harmless."""
        return self._object("POST", "api/statuses/", event.to_wire(), patience_s=patience_s)

    def post_bare_status(self, values: Mapping[str, Any]) -> Mapping[str, Any]:
        """Post a status without a claim, as old clients do. It needs an event_id, by which it is posted only once."""
        return self._object("POST", "api/statuses/", values)

    # --- the catalogue ---

    def get_project(self, slug: str) -> Mapping[str, Any]:
        return self._object("GET", f"api/projects/{_segment(slug)}/")

    def get_dataset(self, slug: str) -> Mapping[str, Any]:
        return self._object("GET", f"api/datasets/{_segment(slug)}/")

    def hold(self, slug: str, *, locked: bool) -> Mapping[str, Any]:
        """Hold a dataset, so that nobody claims it, or let it go."""
        return self._object("PATCH", f"api/datasets/{_segment(slug)}/", {"locked": locked})

    def pause(self, slug: str, *, paused: bool) -> Mapping[str, Any]:
        """Pause a project, so that nothing of it is claimed, or let it go on."""
        return self._object("PATCH", f"api/projects/{_segment(slug)}/", {"paused": paused})

    def create_project(self, *, name: str, **values: Any) -> Mapping[str, Any]:
        return self._create("api/projects/", {"name": name, **values})

    def create_dataset(self, *, parent: str, name: str, **values: Any) -> Mapping[str, Any]:
        """`parent` is the project's slug."""
        return self._create("api/datasets/", {"parent": parent, "name": name, **values})

    def create_datasets(
        self, project: str, datasets: Sequence[Mapping[str, Any]], *, skip_existing: bool = False, dry_run: bool = False
    ) -> Mapping[str, Any]:
        """Make many datasets, all or none: `{created, existing}`. Refused with `body["rows"]` says what is wrong."""
        body = {"datasets": datasets, "skip_existing": skip_existing, "dry_run": dry_run}
        path = f"api/projects/{_segment(project)}/datasets/bulk/"
        return self._object("POST", path, body, timeout_s=BULK_TIMEOUT_S, repeatable=skip_existing or dry_run)

    def create_item(self, *, parent: str, name: str, **values: Any) -> Mapping[str, Any]:
        """`parent` is the slug of an item, a dataset or a project."""
        return self._create("api/items/", {"parent": parent, "name": name, **values})

    def create_attribute(self, kind: str, *, item: str, key: str, **values: Any) -> Mapping[str, Any]:
        """`kind` is a name of `contract.ATTRIBUTE_KINDS`, `values` its fields."""
        return self._create(f"api/attributes/{_segment(kind)}/", {"item": item, "key": key, **values})

    def reset(self, slug: str) -> Mapping[str, Any]:
        """Make a dataset unprocessed again; its history stays."""
        return self._object("POST", f"api/datasets/{_segment(slug)}/reset/", {})

    def retry(self, slug: str, *, dry_run: bool = False) -> Mapping[str, Any]:
        """Make a dataset that nobody processes unprocessed again: `{dry_run, count, datasets, held}`."""
        return self._object("POST", f"api/datasets/{_segment(slug)}/retry/", {"dry_run": dry_run})

    def retry_failed(self, project: str, *, dry_run: bool = False) -> Mapping[str, Any]:
        """Make all failed datasets of a project unprocessed again; `datasets` names the first of many."""
        return self._object("POST", f"api/projects/{_segment(project)}/retry/", {"dry_run": dry_run})

    def next(self, project: str = "") -> str:
        """The slug of the dataset that the next claim would take; empty when there is none."""
        path = f"api/projects/{_segment(project)}/next/" if project else "api/next/"
        return str(self._object("GET", path).get("dataset", ""))

    def pages(self, path: str, **query: str) -> Iterator[Mapping[str, Any]]:
        """All entries of a list such as `api/statuses/`, page by page: of `page_size`, or as large as there are."""
        target: str | None = str(httpx.URL(path, params={"page_size": str(LARGEST_PAGE), **query}))
        while target is not None:
            page = self._object("GET", target)
            try:
                yield from page["results"]
                following = page["next"]
            except (KeyError, TypeError) as error:
                raise ServerError(
                    f"The server at {self.url} answered {path} with something that is no list."
                ) from error
            # Only the query is taken: behind a proxy the server may not know its own address.
            target = f"{path}?{urlsplit(following).query}" if following else None

    # --- one call ---

    def _create(self, path: str, values: Mapping[str, Any]) -> Mapping[str, Any]:
        return self._object("POST", path, values, repeatable=False)

    def _object(
        self,
        method: str,
        path: str,
        json: Mapping[str, Any] | None = None,
        *,
        patience_s: float | None = None,
        timeout_s: float | None = None,
        repeatable: bool = True,
    ) -> Mapping[str, Any]:
        body = self._call(method, path, json, patience_s=patience_s, timeout_s=timeout_s, repeatable=repeatable)
        if not isinstance(body, dict):
            raise ServerError(f"The server at {self.url} answered {path} with something else than asked for.")
        return body

    def _call(
        self,
        method: str,
        path: str,
        json: Mapping[str, Any] | None = None,
        *,
        patience_s: float | None = None,
        timeout_s: float | None = None,
        repeatable: bool = True,
        ends: threading.Event | None = None,
    ) -> Any:
        """One request and its answer's JSON. What is not `repeatable` is sent again only if it was surely not done.

        `timeout_s` is for those who have less time than others to wait for one answer, `ends` ends all patience.
        """
        patience_s = self.patience_s if patience_s is None else patience_s
        ends = ends or threading.Event()
        retrying = Retrying(
            retry=retry_if_exception(lambda error: isinstance(error, _Unanswered) and (repeatable or not error.sent)),
            stop=stop_before_delay(patience_s) | stop_when_event_set(ends),
            sleep=sleep_using_event(ends),
            wait=_wait_s,
            before_sleep=_say_wait,
            reraise=True,
        )
        try:
            return retrying(self._once, method, path, json, timeout_s)
        except _Unanswered as error:
            message = f"{error} Asked for {patience_s:g} s." if patience_s and not ends.is_set() else str(error)
            if error.sent and not repeatable:
                message = f"{error} It may have been done all the same; look before trying again."
            raise ServerUnavailable(message, error.retry_after_s) from error.__cause__

    def _once(self, method: str, path: str, json: Mapping[str, Any] | None, timeout_s: float | None) -> Any:
        timeout = self._http.timeout if timeout_s is None else httpx.Timeout(timeout_s)
        try:
            response = self._http.request(method, path, json=json, timeout=timeout)
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.ProxyError) as error:
            raise _Unanswered(f"The server at {self.url} cannot be reached ({_reason(error)}).", sent=False) from error
        except httpx.TransportError as error:
            raise _Unanswered(f"The server at {self.url} did not answer ({_reason(error)}).", sent=True) from error
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise ServerError(f"The server at {self.url} cannot be asked ({_reason(error)}).") from error
        try:
            return body_of(response, self.url, self.options)
        except ServerUnavailable as error:
            # 429 and 503 are said before anything is done.
            sent = response.status_code not in (429, 503)
            raise _Unanswered(str(error), error.retry_after_s, sent=sent) from error


class _Unanswered(ServerUnavailable):
    """No answer to one request; `sent` tells whether the server may have acted on it."""

    def __init__(self, message: str, retry_after_s: float | None = None, *, sent: bool) -> None:
        super().__init__(message, retry_after_s)
        self.sent = sent


def _say_wait(state: RetryCallState) -> None:
    error = state.outcome.exception() if state.outcome else None
    # Rounded up: to be told of 0 seconds again and again would be a riddle.
    log.warning("%s Trying again in %d s.", error, math.ceil(state.upcoming_sleep))


def _wait_s(state: RetryCallState) -> float:
    error = state.outcome.exception() if state.outcome else None
    return backoff.wait_s(state.attempt_number - 1, error, LONGEST_WAIT_S)


def _reason(error: Exception) -> str:
    return str(error) or type(error).__name__


def _segment(slug: str) -> str:
    return quote(slug, safe=":")


def checked_url(url: str, options: Options) -> str:
    """`url` without a slash at its end. Raises UsageError unless it is a web address without user, query, fragment."""
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        usable = False
    if not usable:
        raise UsageError(f"{url!r} is not a web address; {options.url} should look like https://crunch.example.org")
    if "@" in parts.netloc or parts.query or parts.fragment:
        raise UsageError(
            f"The server's address must have no user, password, query or fragment; the token is {options.token}."
        )
    return url.rstrip("/")


def checked_token(token: str, options: Options) -> str:
    """Raises UsageError when the token cannot be sent; the message does not show it."""
    if not token or not token.isascii() or not token.isprintable() or " " in token:
        raise UsageError(f"The token is empty or holds characters that no token has. Check {options.token}.")
    return token
