"""Fakes to test with, for this project and for those who build on it: a server and a storage in memory."""

from crunch_tasks.files.memory import MemoryStorage
from crunch_tasks.link.fake_claims import FakeClaim
from crunch_tasks.link.fake_server import FakeServer

__all__ = ["FakeClaim", "FakeServer", "MemoryStorage"]
