"""One dataset taken through a run that is disturbed at a named point, and what must be the same as without."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from crunch_tasks.crash import VARIABLE, Point
from crunch_tasks.durable import TEMPORARY
from crunch_tasks.files.plan import plan_path
from crunch_tasks.files.reading import list_files
from tests.support.site import Running, Site

# Appends to an input and looks at all that is there: a redo that starts from anything but the inputs shows. One input
# is deleted, one is left alone; results are small and large, in folders and with names that want care.
WORKFLOW = """#!/bin/bash
set -e
seen=$(find . -type f -not -path './.crunch/*' | LC_ALL=C sort)
echo "$seen" > seen.txt
echo appended >> input.txt
echo changed > 'deep/er/b c.txt'
rm gone.txt
mkdir -p out/deep
for i in 1 2 3 4; do head -c 1000 /dev/zero | tr '\\0' "$i" > "out/deep/$i#%"; done
head -c 9000000 /dev/zero | tr '\\0' L > out/large
"""

INPUTS = {
    "input.txt": b"precious\n",
    "deep/er/b c.txt": b"to be changed",
    "gone.txt": b"to be deleted",
    "kept.txt": b"kept",
    "large.in": b"l" * 9_000_000,
}
SEEN = "".join(f"./{path}\n" for path in sorted(INPUTS)).encode()
RESULTS = {
    "input.txt": b"precious\nappended\n",
    "deep/er/b c.txt": b"changed\n",
    "kept.txt": b"kept",
    "large.in": INPUTS["large.in"],
    "seen.txt": SEEN,
    **{f"out/deep/{i}#%": str(i).encode() * 1000 for i in range(1, 5)},
    "out/large": b"L" * 9_000_000,
}

VOLATILE = ("dataset.json", "project.json")
"""Of `.crunch/`: they name the dataset, and tell how it stands."""


@dataclass(frozen=True)
class Case:
    """A client that gets to `point` for the `nth` time gets `signal`; the next one works in the same folder or not."""

    point: Point
    nth: int = 1
    signal: str = "KILL"
    same: bool = True

    def __str__(self) -> str:
        return f"{self.signal} at {self.point}:{self.nth}, then {'the same' if self.same else 'an empty'} folder"

    @property
    def environment(self) -> dict[str, str]:
        return {VARIABLE: f"{self.point}:{self.nth}:{self.signal}"}


class Walker:
    """Runs cases one after another against one site, each with a project, dataset and folders of its own."""

    def __init__(self, site: Site, folder: Path) -> None:
        self.site = site
        self.folder = folder
        self.count = 0

    def add(self, **project: Any) -> str:
        """A new project with one dataset; its slug."""
        self.count += 1
        name = f"w{self.count}"
        self.site.add_project(name, WORKFLOW, **project)
        return self.site.add_dataset(name, "d", INPUTS)

    def start(self, slug: str, where: str, **environment: str) -> Running:
        return self.site.start(*self._words(slug, where), **environment)

    def run(self, slug: str, where: str, **environment: str) -> int:
        """`crunch next` to its end, whose exit code is returned."""
        return self.site.crunch(*self._words(slug, where), code=None, **environment).returncode

    def sync(self, slug: str, where: str) -> None:
        self.site.crunch("sync", "--directory", self._words(slug, where)[-1], code=None)

    def torn(self, slug: str, where: str) -> list[Path]:
        """What is half written in a client's directory."""
        return list((self.folder / slug.split(":", maxsplit=1)[0] / where).rglob(f"*{TEMPORARY}"))

    def _words(self, slug: str, where: str) -> list[str]:
        project = slug.split(":", maxsplit=1)[0]
        return ["next", "--project", project, "--cleanup", "--directory", str(self.folder / project / where)]

    def arrive_late(self, slug: str) -> None:
        """A plan that the first client was sending when it stood still, or when the line did, arrives only now."""
        self.site.storage.write(f"{self.site.dataset(slug)['base_file_path']}/{plan_path(1)}", b"{}")

    # --- what must be the same -----------------------------------------------------------------------------------

    def read(self, slug: str) -> dict[str, bytes]:
        """The dataset's files as a reader gets them."""
        storage = self.site.storage
        listed = list_files(storage, self.site.dataset(slug))
        return {path: storage.read(source.key) for path, source in listed.files.items()}

    def stored(self, slug: str) -> dict[str, Any]:
        """All that lies in the storage, by path: its SHA-256, or of a manifest what is not about this very run."""
        prefix = f"{self.site.dataset(slug)['base_file_path']}/"
        found: dict[str, Any] = {}
        for info in self.site.storage.list_objects(prefix):
            path, data = info.key.removeprefix(prefix), self.site.storage.read(info.key)
            name = path.removeprefix(".crunch/")
            if name in VOLATILE:
                found[path] = "there"
            elif name.startswith("manifest-"):
                found[".crunch/manifest-FENCE.json"] = _lasting(json.loads(data))
            else:
                found[path] = hashlib.sha256(data).hexdigest()
        return found


def _lasting(manifest: Mapping[str, Any]) -> dict[str, Any]:
    files = {path: (entry["md5"], entry["size"]) for path, entry in manifest["files"].items()}
    return {"files": files, "modified": manifest["modified"], "deleted": manifest["deleted"]}
