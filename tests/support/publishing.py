"""A dataset, a workflow that is not the same twice, and clients that publish its results as the stages do."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from crunch_tasks.contract import DATASET_JSON, SETUP_MANIFEST, WORKFLOW_FILE, WorkflowType
from crunch_tasks.files import publication
from crunch_tasks.files.checksums import compute_manifest
from crunch_tasks.files.download import download
from crunch_tasks.files.manifest import Manifest
from crunch_tasks.files.paths import is_internal
from crunch_tasks.files.plan import Inputs
from crunch_tasks.files.publication import Published
from crunch_tasks.files.reading import list_files
from crunch_tasks.files.storage import Storage
from crunch_tasks.files.walking import Walk
from crunch_tasks.files.workspace import Workspace
from tests.support.faulty import FaultyStorage

PREFIX = "p/d1"


ORIGINAL = {
    "log.txt": b"begun\n",
    "sample#1": b"ACGT",
    "a b/\u00e4.gz": b"\x1f\x8b",
    "unwanted": b"to be deleted",
    "kept": b"kept",
}


NEIGHBOUR = {"p/d10/log.txt": b"another dataset"}


def workflow(root: Path) -> None:
    """Not the same twice: it appends to an input, deletes one, and its results depend on every file it finds."""
    with (root / "log.txt").open("ab") as file:
        file.write(b"ran\n")
    (root / "unwanted").unlink(missing_ok=True)
    found = sorted(
        path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file() and ".crunch" not in path.parts
    )
    (root / "results").mkdir(exist_ok=True)
    (root / "results" / "found.json").write_text(json.dumps(found))
    for number in range(3):
        (root / "results" / f"part-{number}").write_bytes(str(len(found)).encode() * (number + 1))


RESULT = {
    "log.txt": b"begun\nran\n",
    "sample#1": b"ACGT",
    "a b/\u00e4.gz": b"\x1f\x8b",
    "kept": b"kept",
    "results/found.json": json.dumps(sorted(set(ORIGINAL) - {"unwanted"})).encode(),
    "results/part-0": b"4",
    "results/part-1": b"44",
    "results/part-2": b"444",
}


@dataclass
class Site:
    """The server's part: the fence and the last commit."""

    storage: Any
    fence: int = 0
    sha256: str = ""
    committed: int = 0

    def inputs(self) -> Inputs:
        return publication.inputs(self.storage, PREFIX, self.sha256, self.committed)

    def dataset(self) -> dict[str, bytes]:
        """Every file of the dataset as a reader sees it now, changing nothing."""
        body = {"base_file_path": PREFIX, "manifest_sha256": self.sha256, "manifest_fence": self.committed}
        listed = list_files(self.storage, body)
        assert listed.published == bool(self.sha256)
        return {path: self.storage.read(source.key) for path, source in listed.files.items()}

    def promote(self) -> int:
        return publication.promote(self.storage, PREFIX, self.committed, self.sha256)


@dataclass
class Client:
    """One run after another in a directory, as the stages do it."""

    site: Site
    directory: Path
    setup: Manifest = field(default_factory=lambda: Manifest({}))
    inputs: Inputs = field(default_factory=lambda: Inputs({}))
    hooks: dict[str, Any] = field(default_factory=dict)
    fetched: bool = True

    def __post_init__(self) -> None:
        self.workspace = Workspace(self.directory, "p:d1")
        self.workspace.make()

    def claim(self) -> None:
        self.site.fence += 1
        self.fence = self.site.fence

    def set_up(self) -> None:
        self.inputs = self.site.inputs()
        if self.fetched:
            self.workspace.remove_leftovers(self.inputs.files.keys())
            download(self.site.storage, self.inputs.files, self.workspace)
        self.setup = self.manifest()[1]
        self.workspace.write(DATASET_JSON, b'{"id": 7}')
        self.workspace.write(SETUP_MANIFEST, self.setup.checksums_json())

    def manifest(self) -> tuple[Walk, Manifest]:
        walk = self.workspace.walk()
        return walk, compute_manifest(self.workspace.root, walk, self.workspace.hashes)

    def upload(self, walk: Walk | None = None) -> Published:
        root, hashes = self.workspace.root, self.workspace.hashes
        return publication.publish(
            self.site.storage,
            PREFIX,
            self.workspace,
            fence=self.fence,
            dataset_id=7,
            setup=self.setup,
            walk=walk or self.workspace.walk(),
            manifest_of=lambda walk: compute_manifest(root, walk, hashes),
            inputs=self.inputs,
            workflow_file=WORKFLOW_FILE[WorkflowType.SCRIPT],
            fetched=self.fetched,
            **self.hooks,
        )

    def commit(self, published: Published) -> None:
        self.site.sha256, self.site.committed = published.sha256, self.fence

    def run(self, work: Callable[[Path], None] = workflow) -> Published:
        self.claim()
        self.set_up()
        work(self.workspace.root)
        published = self.upload()
        self.commit(published)
        self.site.promote()
        return published


def filled(storage: Any) -> Any:
    for path, data in ORIGINAL.items():
        storage.write(f"{PREFIX}/{path}", data)
    for key, data in NEIGHBOUR.items():
        storage.write(key, data)
    return storage


def stored(storage: Storage) -> dict[str, bytes]:
    """The dataset's objects under their own names, whatever any manifest says."""
    return {
        info.key.removeprefix(f"{PREFIX}/"): storage.read(info.key)
        for info in storage.list_objects(f"{PREFIX}/")
        if not is_internal(info.key.removeprefix(f"{PREFIX}/"))
    }


def assert_is_the_result(site: Site) -> None:
    assert site.dataset() == RESULT
    site.inputs()
    # The workflow deleted a file; its object stays, and is the dataset's no more.
    assert stored(site.storage) == {**RESULT, "unwanted": ORIGINAL["unwanted"]}
    setup = json.loads(site.storage.read(f"{PREFIX}/.crunch/setup_md5_checksums.json"))
    assert set(setup) == set(ORIGINAL)
    final = json.loads(site.storage.read(f"{PREFIX}/.crunch/upload_md5_checksums.json"))
    assert set(final) == set(RESULT)
    assert site.storage.read(f"{PREFIX}/.crunch/deleted.txt") == b"unwanted\n"
    assert site.storage.read("p/d10/log.txt") == NEIGHBOUR["p/d10/log.txt"]


def sent_by(storage: FaultyStorage) -> list[str]:
    """Keys of the files that were sent: not the documents that Crunch makes itself."""
    documents = re.compile(r".*/\.crunch/([^/]+|attempts/\d+/plan\.json)")
    return [key for operation, key in storage.writes if operation in ("send", "write") and not documents.fullmatch(key)]


def making(**files: bytes) -> Callable[[Path], None]:
    def work(root: Path) -> None:
        for name, data in files.items():
            (root / name).write_bytes(data)

    return work
