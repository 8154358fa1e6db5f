"""Django storages that a site might have written itself."""

from __future__ import annotations

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
