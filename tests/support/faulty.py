"""A storage that fails on command: rules of (operation, key, nth call) -> an error, a kill, or spoilt bytes."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

WRITES = ("send", "write", "copy", "delete")


class Killed(BaseException):
    """Stands for SIGKILL: no handler of the code under test may catch it and go on."""


@dataclass
class Rule:
    """From the `nth` matching call on (`times` of them), do `action`: raise an exception, or change bytes."""

    operation: str
    action: BaseException | Callable[[bytes], bytes]
    key: str = ""
    nth: int = 1
    times: int = 10**9
    seen: int = 0

    def applies(self, operation: str, key: str) -> bool:
        wanted = WRITES if self.operation == "any write" else (self.operation,)
        if operation not in wanted or self.key not in key:
            return False
        self.seen += 1
        return self.nth <= self.seen < self.nth + self.times


@dataclass
class FaultyStorage:
    """Wraps a Storage; every call goes through the rules, and the writes are noted in `writes`."""

    storage: Any
    rules: list[Rule] = field(default_factory=list)
    writes: list[tuple[str, str]] = field(default_factory=list)
    reads: list[str] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.storage, name)

    def _hit(self, operation: str, key: str) -> Callable[[bytes], bytes] | None:
        with self.lock:
            rule = next((rule for rule in self.rules if rule.applies(operation, key)), None)
        if rule is None:
            return None
        if isinstance(rule.action, BaseException):
            raise rule.action
        return rule.action

    def _write(self, operation: str, key: str) -> None:
        self._hit(operation, key)
        self.writes.append((operation, key))

    def read(self, key: str) -> bytes:
        change = self._hit("read", key)
        self.reads.append(key)
        data = self.storage.read(key)
        return change(data) if change else data

    def iter_bytes(self, source: Any, start: int = 0) -> Iterator[bytes]:
        change = self._hit("read", source.key)
        self.reads.append(source.key)
        for block in self.storage.iter_bytes(source, start):
            yield change(block) if change else block

    def list_objects(self, prefix: str) -> Any:
        self._hit("list_objects", prefix)
        return self.storage.list_objects(prefix)

    def send(self, content: Any, key: str, before_commit: Callable[[], None]) -> Any:
        self._write("send", key)
        return self.storage.send(content, key, before_commit)

    def write(self, key: str, data: bytes, md5: str | None = None) -> Any:
        self._write("write", key)
        return self.storage.write(key, data, md5)

    def copy(self, source: str, target: str) -> None:
        self._write("copy", target)
        self.storage.copy(source, target)

    def delete(self, key: str) -> None:
        self._write("delete", key)
        self.storage.delete(key)
