"""A TCP relay before a server: `cut` breaks all its connections, `stall` leaves them open and moves nothing any more.

It can be a slow line too.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Iterator


class Relay:
    """Passes on what comes to `port` (loopback) to `target`, a port too, which may come and go.

    All its connections together carry `rate` bytes a second each way; 0 is as many as they can.
    """

    def __init__(self, target: int, rate: float = 0) -> None:
        self.target = target
        self._there, self._back = _Line(rate), _Line(rate)
        self.port = 0
        self.loop = asyncio.new_event_loop()
        self._writers: set[asyncio.StreamWriter] = set()
        self._moves = asyncio.Event()
        self._moves.set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def cut(self) -> None:
        self.loop.call_soon_threadsafe(lambda: [writer.transport.abort() for writer in self._writers])

    def stall(self) -> None:
        self.loop.call_soon_threadsafe(self._moves.clear)

    async def serve(self, started: threading.Event) -> None:
        server = await asyncio.start_server(self._relay, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        started.set()
        await server.serve_forever()

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            there, back = await asyncio.open_connection("127.0.0.1", self.target)
        except OSError:
            writer.transport.abort()
            return
        pair = {writer, back}
        self._writers |= pair
        # At the relay's end; asyncio would print a traceback for each connection that is still open.
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.gather(self._pass(reader, back, self._there), self._pass(there, writer, self._back))
        self._writers -= pair

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, line: _Line) -> None:
        with contextlib.suppress(OSError):
            while block := await reader.read(1 << 16):
                await self._moves.wait()
                await line.carry(len(block))
                writer.write(block)
                await writer.drain()
        with contextlib.suppress(OSError):
            writer.close()


class _Line:
    """One way of a slow line: a block goes when those before it have gone."""

    def __init__(self, rate: float) -> None:
        self._rate = rate
        self._free = 0.0

    async def carry(self, size: int) -> None:
        if self._rate:
            self._free = max(self._free, time.monotonic()) + size / self._rate
            await asyncio.sleep(self._free - time.monotonic())


@contextlib.contextmanager
def relay(target: int, rate: float = 0) -> Iterator[Relay]:
    made, started = Relay(target, rate), threading.Event()

    def run() -> None:
        with contextlib.suppress(asyncio.CancelledError):
            made.loop.run_until_complete(made.serve(started))
        # Outside a running loop nothing at all cannot be waited for.
        if left := asyncio.all_tasks(made.loop):
            made.loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))
        made.loop.close()

    thread = threading.Thread(target=run, name="relay", daemon=True)
    thread.start()
    started.wait()
    try:
        yield made
    finally:
        made.loop.call_soon_threadsafe(lambda: [task.cancel() for task in asyncio.all_tasks(made.loop)])
        thread.join(5)
