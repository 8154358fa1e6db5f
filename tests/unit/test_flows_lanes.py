"""The lanes of a loop: what a signal ends that comes at a bad moment."""

from __future__ import annotations

import signal
import threading
from types import SimpleNamespace
from typing import Any

import pytest

from crunch_tasks.contract import ClaimRequest
from crunch_tasks.errors import Stopped
from crunch_tasks.link.fake_server import FakeServer
from crunch_tasks.link.lease import Lease, boot_clock
from crunch_tasks.run import Result
from crunch_tasks.settings import LoopOptions, RunOptions
from flows import lanes


def test_what_the_server_gives_while_ctrl_c_comes_is_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    server = FakeServer()
    server.add_project("p")
    server.add_dataset("p", "d")
    client = server.client()

    def claim(**_: Any) -> Lease:
        lease = Lease(client, client.claim(ClaimRequest("r")), sent_at=boot_clock())
        signal.raise_signal(signal.SIGINT)
        for thread in threading.enumerate():
            if thread.name == "drain":
                thread.join()
        return lease

    def process(_session: Any, lease: Lease, *_: Any, **__: Any) -> Any:
        with pytest.raises(Stopped, match="its loop was told to end"):
            lease.check()
        return SimpleNamespace(result=Result.RELEASED)

    monkeypatch.setattr(lanes, "process", process)
    said: list[str] = []
    session: Any = SimpleNamespace(claim=claim, client=server.client(), report=SimpleNamespace(say=said.append))
    loop = lanes.Lanes(session, RunOptions(), "p", LoopOptions())
    loop.run()
    assert [outcome.result for outcome in loop.outcomes] == [Result.RELEASED]
    assert "Ctrl-C again stops now" in said[0]


def test_what_hangs_when_its_loop_is_stopped_is_given_back_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    server = FakeServer()
    server.add_project("p")
    server.add_dataset("p", "d")
    client = server.client()
    hangs, over = threading.Event(), threading.Event()
    words: list[BaseException] = []

    def claim(*, ahead: bool, **_: Any) -> Lease:
        if ahead:
            hangs.wait()
            raise KeyboardInterrupt
        return Lease(client, client.claim(ClaimRequest("r")), sent_at=boot_clock())

    def process(*_: Any, made: Any) -> Any:
        made(SimpleNamespace(last_words=words.append))
        hangs.set()
        over.wait()

    monkeypatch.setattr(lanes, "process", process)
    monkeypatch.setattr(lanes, "seconds_left", lambda: 5.0)
    session: Any = SimpleNamespace(claim=claim, client=server.client(), report=SimpleNamespace(say=lambda _: None))
    loop = lanes.Lanes(session, RunOptions(), "p", LoopOptions())
    try:
        with pytest.raises(KeyboardInterrupt):
            loop.run()
    finally:
        over.set()
    assert [type(word) for word in words] == [KeyboardInterrupt]
