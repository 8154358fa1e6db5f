"""A cancel or an interrupt waits for no storage, and nothing is placed or sent after it."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from crunch_tasks.errors import Cancelled
from crunch_tasks.files.download import download
from crunch_tasks.files.plan import ObjectInfo
from crunch_tasks.files.storage import LARGE
from crunch_tasks.files.upload import upload
from crunch_tasks.files.workspace import Workspace
from crunch_tasks.testing import MemoryStorage
from tests.support.transfers import INPUTS, files_of, manifest_of, sources


def test_a_cancel_stops_a_download(workspace: Workspace) -> None:
    def cancelled() -> None:
        raise Cancelled

    with pytest.raises(Cancelled):
        download(MemoryStorage(INPUTS), sources(MemoryStorage(INPUTS)), workspace, check=cancelled)
    assert files_of(workspace) == {}


class Waiting(MemoryStorage):
    """Answers when it is told to."""

    def __init__(self, objects: dict[str, bytes]) -> None:
        super().__init__(objects)
        self.answers = threading.Event()
        self.asked = threading.Event()
        self.threads: list[threading.Thread] = []

    def wait(self) -> None:
        self.threads.append(threading.current_thread())
        self.asked.set()
        self.answers.wait()

    def read(self, key: str) -> bytes:
        data = super().read(key)
        self.wait()
        return data

    def send(self, content: Any, key: str, before_commit: Callable[[], None]) -> ObjectInfo:
        self.wait()
        return super().send(content, key, before_commit)


@contextlib.contextmanager
def interrupted(storage: Waiting) -> Iterator[None]:
    """An interrupt of the main thread when the storage was asked, which answers after the main thread has gone on."""

    def interrupt() -> None:
        storage.asked.wait()
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt).start()
    with pytest.raises(KeyboardInterrupt):
        yield
    assert not storage.answers.is_set()
    storage.answers.set()
    for thread in storage.threads:
        thread.join()


def test_an_interrupt_waits_for_no_storage_and_nothing_is_placed_after_it(workspace: Workspace) -> None:
    storage = Waiting({f"p/d1/{number}": b"x" for number in range(8)})
    listed = sources(MemoryStorage(storage.objects))
    with interrupted(storage):
        download(storage, listed, workspace)
    assert files_of(workspace) == {}
    assert list(workspace.partial.iterdir()) == []


def test_after_an_interrupt_nothing_is_sent(workspace: Workspace) -> None:
    (workspace.root / "x").write_bytes(b"x" * (LARGE + 1))
    storage = Waiting({})
    with interrupted(storage):
        upload(storage, {"x": "p/x"}, workspace, workspace.walk(), manifest_of(workspace))
    assert storage.objects == {}


def test_a_process_ends_without_its_hanging_transfers() -> None:
    code = """
import threading
from crunch_tasks.files.parallel import in_parallel
def hang(item, check):
    asked.set()
    threading.Event().wait()
def interrupt():
    asked.wait()
    __import__("os").kill(__import__("os").getpid(), __import__("signal").SIGTERM)
def stop(*_):
    raise SystemExit(143)
asked = threading.Event()
__import__("signal").signal(__import__("signal").SIGTERM, stop)
threading.Thread(target=interrupt).start()
in_parallel(hang, [1, 2, 3], 2, lambda: None)
"""
    assert subprocess.run([sys.executable, "-c", code], timeout=60, check=False).returncode == 143
