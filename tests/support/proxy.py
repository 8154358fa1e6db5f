"""An HTTP proxy before a storage or a server, that spoils on command what passes through."""

from __future__ import annotations

import contextlib
import http.client
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

PIECE = 16 * 1024
"""How much a line of limited rate moves at a time, in bytes."""

HOP_BY_HOP = {"connection", "transfer-encoding", "content-length", "keep-alive"}


@dataclass
class Fault:
    """Of requests with this method whose path has `key` in it, spoil `times`; `seen` counts them.

    `change` makes another body of an answer's (GET) or of a request's (PUT), its length told consistently.
    `reset_after` breaks the connection after so many bytes of it; `drip` moves it byte by byte, one in so many seconds.
    `status` is answered, with `headers`, instead of asking; `lose` breaks the connection when the other side answers.
    """

    method: str
    key: str
    change: Callable[[bytes], bytes] | None = None
    reset_after: int | None = None
    drip: float = 0.0
    status: int = 0
    headers: Mapping[str, str] = field(default_factory=dict)
    lose: bool = False
    times: int = 10**9
    seen: int = 0

    def applies(self, method: str, path: str) -> bool:
        if method != self.method or self.key not in path or self.seen >= self.times:
            return False
        self.seen += 1
        return True


@dataclass
class Proxy:
    """`endpoint` is the storage's address for whoever is to go through it; `asked` lists method, path and range.

    `rate` is how many bytes a second the line moves, for all that goes through it at once, either way; None: no limit.
    """

    endpoint: str
    rate: float | None = None
    faults: list[Fault] = field(default_factory=list)
    asked: list[tuple[str, str, str]] = field(default_factory=list)
    bytes_read: int = 0


def flip(offset: int) -> Callable[[bytes], bytes]:
    """Flips one bit of the byte at `offset`, if there is one."""
    return lambda body: body[:offset] + bytes([body[offset] ^ 1]) + body[offset + 1 :] if offset < len(body) else body


@contextlib.contextmanager
def proxy(storage: str) -> Iterator[Proxy]:
    """A running proxy before the storage, or the server, at this address."""
    made = Proxy("")
    lock = threading.Lock()
    closed = threading.Event()
    free_at = 0.0

    def wait_for_line(size: int) -> None:
        """Whoever comes takes its turn, so that all who are there get the same share."""
        nonlocal free_at
        if made.rate:
            with lock:
                free_at = max(free_at, time.monotonic()) + size / made.rate
                wait = free_at - time.monotonic()
            closed.wait(wait)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        # Head and body in one packet, or each answer waits for the other side's delayed acknowledgement.
        wbufsize = -1

        def log_message(self, *_: object) -> None:
            pass

        def _pass(self) -> None:
            path = unquote(self.path)
            with lock:
                made.asked.append((self.command, path, self.headers.get("Range", "")))
                fault = next((fault for fault in made.faults if fault.applies(self.command, path)), None)
            length = int(self.headers.get("Content-Length") or 0)
            is_upload = self.command in ("PUT", "POST")
            if fault and is_upload and fault.reset_after is not None:
                self.rfile.read(min(length, fault.reset_after))
                return self._reset()
            body = self._receive(length, fault.drip if fault and is_upload else 0.0)
            if fault and is_upload and fault.change:
                body = fault.change(body)
            if fault and fault.status:
                status, headers, answer = fault.status, list(fault.headers.items()), b""
            else:
                status, headers, answer = self._ask(body)
            if fault and fault.lose:
                return self._reset()
            if fault and not is_upload and fault.change:
                answer = fault.change(answer)
            self.send_response_only(status)
            for name, value in headers:
                if name.lower() not in HOP_BY_HOP:
                    self.send_header(name, value)
            told = {name.lower(): value for name, value in headers}.get("content-length", "0")
            self.send_header("Content-Length", told if self.command == "HEAD" else str(len(answer)))
            self.end_headers()
            if fault and not is_upload and fault.reset_after is not None:
                self.wfile.write(answer[: fault.reset_after])
                self.wfile.flush()
                return self._reset()
            with lock:
                made.bytes_read += len(answer)
            self._send(answer, fault.drip if fault and not is_upload else 0.0)
            return None

        def _receive(self, length: int, drip: float) -> bytes:
            body = bytearray()
            while len(body) < length:
                piece = self.rfile.read(min(1 if drip else PIECE, length - len(body)))
                if not piece or closed.wait(drip):
                    raise ConnectionError
                wait_for_line(len(piece))
                body += piece
            return bytes(body)

        def _send(self, answer: bytes, drip: float) -> None:
            pieces = 1 if drip else PIECE if made.rate else len(answer) or 1
            for start in range(0, len(answer), pieces):
                wait_for_line(pieces)
                self.wfile.write(answer[start : start + pieces])
                if drip:
                    self.wfile.flush()
                    if closed.wait(drip):
                        raise ConnectionError
            self.wfile.flush()

        def _ask(self, body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
            line = http.client.HTTPConnection(urlsplit(storage).netloc, timeout=60)
            try:
                line.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
                for name, value in self.headers.items():
                    if name.lower() != "content-length":
                        line.putheader(name, value)
                line.putheader("Content-Length", str(len(body)))
                line.endheaders(body)
                answer = line.getresponse()
                return answer.status, answer.getheaders(), answer.read()
            finally:
                line.close()

        def _reset(self) -> None:
            """Break the connection as a lost peer does, not as one that has said all."""
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()
            self.close_connection = True

        do_GET = do_HEAD = do_PUT = do_POST = do_PATCH = do_DELETE = _pass

        def handle(self) -> None:
            with contextlib.suppress(OSError, ValueError):
                super().handle()

        def finish(self) -> None:
            with contextlib.suppress(OSError, ValueError):
                super().finish()

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    made.endpoint = f"http://127.0.0.1:{server.server_port}"
    try:
        yield made
    finally:
        closed.set()
        server.shutdown()
        server.server_close()
