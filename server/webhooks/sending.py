"""One delivery over the network: signed, in ten seconds at most, without following redirects.

A project's manager chooses the address, the server calls it: so it must not lead to what only the server can reach.
The address that is checked is the one that is connected to, whatever the name's next look-up would say.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import ipaddress
import socket
import ssl
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import httpcore
import httpx

CONNECT_S = 3.0
TOTAL_S = 10.0
PROBLEM_LENGTH = 255


class PrivateAddress(Exception):
    """The name leads to an address that is not of the open network."""


@dataclass(frozen=True)
class Letter:
    """What is to be sent: `number` is the delivery's, the same for each attempt."""

    number: int
    url: str
    secret: str
    event: str
    body: str


@dataclass(frozen=True)
class Outcome:
    """The status code that came, or the problem, in a sentence, for which none did."""

    answer: int | None = None
    problem: str = ""

    @property
    def good(self) -> bool:
        return self.answer is not None and 200 <= self.answer < 300


def signature(secret: str, timestamp: str, body: bytes) -> str:
    """HMAC-SHA256 over the timestamp, a full stop and the body; the header X-Crunch-Signature."""
    return "sha256=" + hmac.new(secret.encode(), timestamp.encode() + b"." + body, hashlib.sha256).hexdigest()


def problem_of(url: str, *, private: bool) -> str:
    """What is wrong with the address of a webhook, as far as it can be told without the network; "" if nothing."""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        return "The address cannot be read. Write it like https://example.org/hook."
    if parts.scheme not in ("http", "https") or not host or not url.isascii() or any(c <= " " for c in url):
        return "The address has to begin with https:// or http:// and a host. Write it like https://example.org/hook."
    if parts.username is not None or parts.password is not None:
        return "The address must hold no user and password: anyone who manages the project can read it."
    if not private and (host == "localhost" or (_is_number(host) and not is_public(host))):
        return f"{host} is not an address of the open network."
    if not _is_number(host) and _is_disguised(host):
        return f"{host} is another way to write an address. Write it as a name, or in its usual form."
    return ""


def is_public(address: str) -> bool:
    found = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(found, ipaddress.IPv6Address) and found.ipv4_mapped:
        found = found.ipv4_mapped
    return found.is_global and not found.is_multicast


def _is_number(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _is_disguised(host: str) -> bool:
    """Whether it is a number that a resolver takes for an address, such as 2130706433 or 0x7f.1 for 127.0.0.1."""
    try:
        socket.inet_aton(host)
    except OSError:
        return False
    return True


def trust() -> ssl.SSLContext:
    """Whom to believe on https: what SSL_CERT_FILE says, else the usual authorities."""
    return httpx.create_ssl_context()


def send(letters: Iterable[Letter], context: ssl.SSLContext, *, private: bool) -> list[Outcome]:
    """Send all at once, each in a connection of its own; their outcomes in the same order. Raises nothing."""
    return asyncio.run(_send_all(list(letters), context, private))


async def _send_all(letters: list[Letter], context: ssl.SSLContext, private: bool) -> list[Outcome]:
    return await asyncio.gather(*(_send(letter, context, private) for letter in letters))


async def _send(letter: Letter, context: ssl.SSLContext, private: bool) -> Outcome:
    try:
        async with asyncio.timeout(TOTAL_S):
            return Outcome(await _post(letter, context, private))
    except TimeoutError:
        return Outcome(problem=f"No answer in {TOTAL_S:g} s.")
    except PrivateAddress as error:
        return Outcome(problem=f"Not sent: {error}"[:PROBLEM_LENGTH])
    # Whatever an address or what listens there can make go wrong is told to the project's managers.
    except Exception as error:  # noqa: BLE001
        return Outcome(problem=_told(error)[:PROBLEM_LENGTH])


def _told(error: Exception) -> str:
    """In plain words what happens to any address now and then; all else as whoever raised it says it."""
    cause = error.__cause__ or error.__context__ or error
    # The latter: a name that no look-up can even ask for.
    if isinstance(cause, socket.gaierror | UnicodeError):
        return "The host's name is not known."
    # What is wrong with a certificate is an OSError too.
    is_refused = isinstance(error, httpcore.NetworkError) and not isinstance(cause, ssl.SSLError)
    if is_refused or isinstance(error, httpcore.TimeoutException):
        return "The host does not answer."
    return f"{type(error).__name__}: {error}"


async def _post(letter: Letter, context: ssl.SSLContext, private: bool) -> int:
    body, now = letter.body.encode(), str(int(time.time()))
    headers: dict[bytes | str, bytes | str] = {
        "Content-Type": "application/json",
        "User-Agent": "Crunch",
        "Connection": "close",
        "Host": urlsplit(letter.url).netloc,
        "X-Crunch-Event": letter.event,
        "X-Crunch-Delivery": str(letter.number),
        "X-Crunch-Timestamp": now,
        "X-Crunch-Signature": signature(letter.secret, now, body),
    }
    limits = {"connect": CONNECT_S, "read": TOTAL_S, "write": TOTAL_S, "pool": TOTAL_S}
    backend = None if private else _OpenNetwork()
    async with (
        httpcore.AsyncConnectionPool(ssl_context=context, network_backend=backend) as pool,
        # The body of the answer is nobody's business here, and may be endless.
        pool.stream("POST", letter.url, headers=headers, content=body, extensions={"timeout": limits}) as answer,
    ):
        return answer.status


class _OpenNetwork(httpcore.AnyIOBackend):
    """Connects to addresses of the open network only."""

    async def connect_tcp(self, host: str, port: int, *args: Any, **kwargs: Any) -> httpcore.AsyncNetworkStream:
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
        addresses = list(dict.fromkeys(str(entry[4][0]) for entry in found))
        for address in addresses:
            if not is_public(address):
                raise PrivateAddress(f"{host} leads to {address}, which is not of the open network.")
        for address in addresses[:-1]:
            try:
                return await super().connect_tcp(address, port, *args, **kwargs)
            except httpcore.ConnectError:
                continue
        return await super().connect_tcp(addresses[-1], port, *args, **kwargs)
