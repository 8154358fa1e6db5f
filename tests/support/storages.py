"""Django storages that a site might have written itself."""

from __future__ import annotations

import os
import signal
import threading
from typing import Any

from django.core.files.storage import FileSystemStorage


class SiteStorage(FileSystemStorage):
    """Works through `open` and `save` only, as any class that Crunch does not know."""


class HashingStorage(FileSystemStorage):
    """Keeps each file under a name of its own making."""

    def get_available_name(self, name: str, max_length: int | None = None) -> str:
        return f"{name}.kept"

    def get_alternative_name(self, file_root: str, file_ext: str) -> Any:
        return f"{file_root}.kept{file_ext}"


class DyingStorage(FileSystemStorage):
    """Once an upload began, SIGKILLs its own process before it saves object number DIE_AFTER_SETUP_AT of it, if set."""

    saved = 0
    lock = threading.Lock()

    def save(self, name: str | None, content: Any, max_length: int | None = None) -> str:
        with DyingStorage.lock:
            # The plan of the attempt is the first thing that an upload writes.
            if DyingStorage.saved or str(name).endswith("plan.json"):
                DyingStorage.saved += 1
            if DyingStorage.saved == int(os.environ.get("DIE_AFTER_SETUP_AT", "-1")):
                os.kill(os.getpid(), signal.SIGKILL)
        return super().save(name, content, max_length)
