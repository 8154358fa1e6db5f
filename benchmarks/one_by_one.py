"""The simple way, in a process of its own: each file through django-storages' S3, one after another, unverified.

`python -m benchmarks.one_by_one up|down STORAGE FOLDER`
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.files import File
from django.core.files.storage.handler import StorageHandler

from benchmarks.measure import part, tell


def up(storage: Any, folder: Path) -> None:
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            with path.open("rb") as file:
                storage.save(path.relative_to(folder).as_posix(), File(file))


def down(storage: Any, folder: Path, below: str = "") -> None:
    folders, files = storage.listdir(below)
    folder.mkdir(parents=True, exist_ok=True)
    for name in files:
        with storage.open(f"{below}{name}") as source, (folder / name).open("wb") as target:
            shutil.copyfileobj(source, target)
    for name in folders:
        down(storage, folder / name, f"{below}{name}/")


def main(way: str, config: str, folder: str) -> None:
    settings.configure()
    storage = StorageHandler({}).create_storage(json.loads(config))
    tell(part(lambda: (up if way == "up" else down)(storage, Path(folder))))


if __name__ == "__main__":
    main(*sys.argv[1:])
