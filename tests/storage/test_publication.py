"""Publication: whatever is killed whenever, a dataset is its inputs until the commit and its results from then on."""

from __future__ import annotations

import hashlib
import itertools
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from crunch_tasks.contract import (
    DATASET_JSON,
    SETUP_MANIFEST,
    WORKFLOW_FILE,
    WORKFLOW_LOG,
    WorkflowType,
    published_manifest,
)
from crunch_tasks.errors import LeaseLost, NamesRefused, ObjectMissing, StorageError, TransferError, WorkspaceError
from crunch_tasks.files import own_files, publication, transfer
from crunch_tasks.files.checksums import compute_manifest
from crunch_tasks.files.download import download
from crunch_tasks.files.manifest import Manifest
from crunch_tasks.files.paths import is_internal
from crunch_tasks.files.plan import Inputs, plan_path, staged_path
from crunch_tasks.files.publication import Published
from crunch_tasks.files.reading import find_file, list_files
from crunch_tasks.files.storage import LARGE, Storage
from crunch_tasks.files.tree import Walk
from crunch_tasks.files.workspace import Workspace
from crunch_tasks.testing import MemoryStorage
from tests.support.faulty import FaultyStorage, Killed, Rule

PREFIX = "p/d1"
ORIGINAL = {
    "log.txt": b"begun\n",
    "sample#1": b"ACGT",
    "a b/\u00e4.gz": b"\x1f\x8b",
    "unwanted": b"to be deleted",
    "kept": b"kept",
}
NEIGHBOUR = {"p/d10/log.txt": b"another dataset"}


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transfer, "FIRST_PAUSE_S", 0.0)


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


@pytest.fixture
def directories(tmp_path: Path) -> Iterator[Path]:
    return (tmp_path / f"machine-{number}" for number in itertools.count())


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


def test_a_run_becomes_the_dataset_and_the_next_one_starts_from_it(
    storage: Storage, directories: Iterator[Path]
) -> None:
    site = Site(filled(storage))
    published = Client(site, next(directories)).run()
    assert (published.sent, published.present) == (5, 0)
    assert_is_the_result(site)
    assert [info.key for info in storage.list_objects(f"{PREFIX}/.crunch/attempts/")] == []
    second = Client(site, next(directories))
    second.claim()
    second.set_up()
    assert {path: (second.workspace.root / path).read_bytes() for path in second.setup} == RESULT
    assert second.inputs.deleted == {"unwanted"}


def sent_by(storage: FaultyStorage) -> list[str]:
    """Keys of the files that were sent: not the documents that Crunch makes itself."""
    documents = re.compile(r".*/\.crunch/([^/]+|attempts/\d+/plan\.json)")
    return [key for operation, key in storage.writes if operation in ("send", "write") and not documents.fullmatch(key)]


def test_killed_at_any_write_a_redo_from_an_empty_folder_is_as_if_nothing_had_been(directories: Iterator[Path]) -> None:
    for nth in itertools.count(1):
        storage = FaultyStorage(filled(MemoryStorage()))
        storage.storage.parallel = 1
        site = Site(storage)
        storage.rules = [Rule("any write", Killed(), nth=nth)]
        try:
            Client(site, next(directories)).run()
        except Killed:
            pass
        else:
            assert nth > 12
            break
        storage.rules = []
        if not site.sha256:
            assert site.dataset() == ORIGINAL
            Client(site, next(directories)).run()
        assert_is_the_result(site)


def test_killed_at_any_write_the_same_folder_sends_only_the_rest(directories: Iterator[Path]) -> None:
    for nth in range(1, 12):
        storage = FaultyStorage(filled(MemoryStorage(tells_sums=False)))
        storage.storage.parallel = 1
        site = Site(storage)
        client = Client(site, next(directories))
        client.claim()
        client.set_up()
        workflow(client.workspace.root)
        storage.writes.clear()
        storage.rules = [Rule("any write", Killed(), nth=nth)]
        with pytest.raises(Killed):
            client.upload()
        storage.rules = []
        sent = sent_by(storage)
        storage.writes.clear()
        # The process is another one, only the folders are the same.
        client.workspace = Workspace(client.directory, "p:d1")
        client.commit(client.upload())
        again = sent_by(storage)
        assert set(sent).isdisjoint(again)
        assert len(sent) + len(again) == 5
        site.promote()
        assert_is_the_result(site)


@pytest.mark.parametrize("nth", [2, 4, 6, 9])
def test_killed_in_the_middle_on_every_storage(storage: Storage, directories: Iterator[Path], nth: int) -> None:
    faulty = FaultyStorage(filled(storage), [Rule("any write", Killed(), nth=nth)])
    site = Site(faulty)
    with pytest.raises(Killed):
        Client(site, next(directories)).run()
    faulty.rules = []
    assert site.dataset() == ORIGINAL
    Client(site, next(directories)).run()
    assert_is_the_result(site)


def test_a_promotion_left_unfinished_is_finished_by_the_next_reader(directories: Iterator[Path]) -> None:
    def change_three(root: Path) -> None:
        for name in ("log.txt", "sample#1", "kept"):
            (root / name).write_bytes(b"changed " + name.encode())

    changed = {**ORIGINAL, **{name: b"changed " + name.encode() for name in ("log.txt", "sample#1", "kept")}}
    for nth in itertools.count(1):
        storage = FaultyStorage(filled(MemoryStorage()))
        site = Site(storage)
        client = Client(site, next(directories))
        client.claim()
        client.set_up()
        change_three(client.workspace.root)
        client.commit(client.upload())
        assert stored(storage) == ORIGINAL
        assert site.dataset() == changed
        storage.rules = [Rule("any write", Killed(), nth=nth)]
        try:
            site.promote()
        except Killed:
            pass
        else:
            break
        storage.rules = []
        assert site.dataset() == changed
        late = Client(site, next(directories))
        late.claim()
        late.set_up()
        assert {path: (late.workspace.root / path).read_bytes() for path in late.setup} == changed
        assert stored(storage) == changed
        assert site.promote() == 0
    assert nth > 6


def test_what_a_stale_writer_left_is_never_taken_for_the_result(directories: Iterator[Path]) -> None:
    def write_stale(root: Path) -> None:
        (root / "stale").write_bytes(b"stale")
        (root / "log.txt").write_bytes(b"stale")

    storage = filled(MemoryStorage())
    site = Site(storage)
    stale = Client(site, next(directories))
    stale.claim()
    stale.set_up()
    write_stale(stale.workspace.root)
    stale.upload()
    Client(site, next(directories)).run()
    assert site.dataset() == RESULT
    # It wakes up and writes on after the commit of the other one.
    stale.upload()
    assert site.dataset() == RESULT
    third = Client(site, next(directories))
    third.claim()
    third.set_up()
    assert set(third.setup) == set(RESULT)
    assert "stale" in third.inputs.deleted


def test_an_unchanged_second_run_moves_no_data(storage: Storage, directories: Iterator[Path]) -> None:
    faulty = FaultyStorage(filled(storage))
    site = Site(faulty)
    client = Client(site, next(directories))
    client.workspace.write(WORKFLOW_LOG, b"a log")
    client.run()
    faulty.writes.clear()
    faulty.reads.clear()
    published = client.run(lambda root: None)
    assert sent_by(faulty) == []
    assert published.sent == 0
    # Its own manifest, and that of the files at its end: the first run's had others in its setup manifest.
    written = {key.removeprefix(f"{PREFIX}/.crunch/") for operation, key in faulty.writes if operation != "delete"}
    assert written <= {"manifest-2.json", "setup_md5_checksums.json", "deleted.txt"}
    # Storages of which only Django's interface is known are read after each write.
    read = {key.removeprefix(f"{PREFIX}/.crunch/") for key in faulty.reads}
    assert read <= {"manifest-1.json", *written}
    assert site.dataset() == RESULT
    assert not any(key.endswith("plan.json") for _, key in faulty.writes)


def test_bytes_that_an_earlier_attempt_staged_are_copied_in_the_storage(directories: Iterator[Path]) -> None:
    storage = FaultyStorage(filled(MemoryStorage()), [Rule("write", Killed(), key="upload_md5")])
    site = Site(storage)
    with pytest.raises(Killed):
        Client(site, next(directories)).run()
    storage.rules = []
    storage.writes.clear()
    Client(site, next(directories)).run()
    assert ("copy", f"{PREFIX}/{staged_path(2, 'log.txt')}") in storage.writes
    # New files of the same bytes are there already.
    assert sent_by(storage) == []
    assert_is_the_result(site)


def test_people_may_add_files_before_and_after_a_commit(directories: Iterator[Path]) -> None:
    storage = FaultyStorage(filled(MemoryStorage()), [Rule("write", Killed(), key="upload_md5")])
    site = Site(storage)
    with pytest.raises(Killed):
        Client(site, next(directories)).run()
    storage.rules = []
    storage.write(f"{PREFIX}/added", b"by a person")
    assert site.dataset() == {**ORIGINAL, "added": b"by a person"}
    Client(site, next(directories)).run()
    storage.write(f"{PREFIX}/added later", b"by a person")
    assert site.dataset().keys() == RESULT.keys() | {"added"}
    assert set(site.inputs().files) == RESULT.keys() | {"added", "added later"}


def test_a_deleted_file_stays_deleted_through_later_commits(directories: Iterator[Path]) -> None:
    site = Site(filled(MemoryStorage()))
    Client(site, next(directories)).run()
    Client(site, next(directories)).run(lambda root: (root / "kept").unlink())
    Client(site, next(directories)).run(lambda root: None)
    assert set(site.dataset()) == set(RESULT) - {"kept"}


def test_a_committed_file_that_is_gone_or_spoilt_is_named(directories: Iterator[Path]) -> None:
    storage = filled(MemoryStorage())
    site = Site(storage)
    client = Client(site, next(directories))
    client.run()
    good = storage.objects[f"{PREFIX}/sample#1"]
    storage.write(f"{PREFIX}/sample#1", b"TCGA")
    with pytest.raises(TransferError, match="sample#1"):
        Client(site, next(directories)).set_up()
    storage.write(f"{PREFIX}/sample#1", good + b"longer")
    with pytest.raises(StorageError, match="sample#1"):
        site.inputs()
    storage.delete(f"{PREFIX}/sample#1")
    with pytest.raises(ObjectMissing, match="sample#1"):
        site.inputs()


def test_a_manifest_other_than_the_committed_one_is_refused(directories: Iterator[Path]) -> None:
    storage = filled(MemoryStorage())
    site = Site(storage)
    Client(site, next(directories)).run()
    key = f"{PREFIX}/{published_manifest(1)}"
    storage.write(key, storage.objects[key].replace(b'"dataset":7', b'"dataset":8'))
    with pytest.raises(StorageError, match="SHA-256"):
        site.inputs()


def test_the_plan_is_there_before_any_data_and_the_manifest_after_all(directories: Iterator[Path]) -> None:
    storage = FaultyStorage(filled(MemoryStorage()))
    client = Client(Site(storage), next(directories))
    client.claim()
    client.set_up()
    workflow(client.workspace.root)
    storage.writes.clear()
    client.upload()
    keys = [key.removeprefix(f"{PREFIX}/") for _, key in storage.writes]
    assert keys[0] == plan_path(1)
    assert keys[-1] == published_manifest(1)
    assert "log.txt" not in keys


def test_every_write_asks_the_lease_and_a_lost_one_publishes_nothing(directories: Iterator[Path]) -> None:
    storage = filled(MemoryStorage())
    site = Site(storage)
    client = Client(site, next(directories))
    client.claim()
    client.set_up()
    workflow(client.workspace.root)
    asked: list[float] = []
    client.hooks["may_write"] = asked.append
    storage.calls.clear()
    client.upload()
    assert len(asked) == sum(storage.calls.get(name, 0) for name in ("send", "write", "copy"))

    def lost(timeout_s: float) -> None:
        raise LeaseLost

    other = Client(Site(filled(MemoryStorage())), next(directories), hooks={"may_write": lost})
    before = dict(other.site.storage.objects)
    with pytest.raises(LeaseLost):
        other.run()
    assert other.site.storage.objects == before


def test_a_failed_runs_logs_are_kept_beside_its_data(directories: Iterator[Path]) -> None:
    storage = filled(MemoryStorage())
    site = Site(storage)
    client = Client(site, next(directories))
    client.claim()
    client.set_up()
    client.workspace.write(WORKFLOW_LOG, b"it broke")
    own_files.save_logs(storage, PREFIX, client.workspace, client.fence)
    assert storage.read(f"{PREFIX}/.crunch/attempts/1/logs/workflow.log") == b"it broke"
    assert site.dataset() == ORIGINAL


def test_logs_and_snakemakes_memory_travel_and_nothing_else_internal(directories: Iterator[Path]) -> None:
    def with_snakemake(root: Path) -> None:
        for name in ("metadata/abc=", "log/run.log", "conda/huge", "incomplete/x", "shadow/y"):
            (root / ".snakemake" / name).parent.mkdir(parents=True, exist_ok=True)
            (root / ".snakemake" / name).write_bytes(name.encode())
        (root / ".crunch" / "logs").mkdir(parents=True)
        (root / ".crunch" / "logs" / "workflow.log").write_bytes(b"log")
        (root / ".crunch" / "private").write_bytes(b"not named anywhere")

    storage = filled(MemoryStorage())
    site = Site(storage)
    Client(site, next(directories)).run(with_snakemake)
    internal = {key.removeprefix(f"{PREFIX}/") for key in storage.objects if "/.crunch/" in key or "snakemake" in key}
    assert internal == {
        ".crunch/setup_md5_checksums.json",
        ".crunch/upload_md5_checksums.json",
        ".crunch/deleted.txt",
        ".crunch/dataset.json",
        ".crunch/logs/workflow.log",
        ".crunch/snakemake/1/metadata/abc=",
        ".crunch/snakemake/1/log/run.log",
        ".crunch/manifest-1.json",
    }
    assert site.dataset() == ORIGINAL


def test_what_a_workflow_does_to_crunchs_own_files_is_noticed_and_not_published(directories: Iterator[Path]) -> None:
    def tamper(root: Path) -> None:
        (root / DATASET_JSON).write_bytes(b'{"id": 666}')

    storage = filled(MemoryStorage())
    client = Client(Site(storage), next(directories))
    client.run(tamper)
    assert client.workspace.tampered() == [DATASET_JSON]
    assert storage.objects[f"{PREFIX}/{DATASET_JSON}"] == b'{"id": 7}'


def test_a_full_storage_leaves_the_old_dataset_as_it_was(directories: Iterator[Path]) -> None:
    storage = FaultyStorage(filled(MemoryStorage()))
    site = Site(storage)
    Client(site, next(directories)).run()
    storage.rules = [Rule("write", StorageError("The storage is full"), nth=3)]
    with pytest.raises(StorageError, match="full"):
        Client(site, next(directories)).run()
    storage.rules = []
    assert site.dataset() == RESULT


def test_links_that_lead_out_are_reported_and_not_published(directories: Iterator[Path], tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"secret")

    def link(root: Path) -> None:
        (root / "inside").symlink_to("sample#1")
        (root / "outside").symlink_to(tmp_path / "secret")

    site = Site(filled(MemoryStorage()))
    client = Client(site, next(directories))
    client.run(link)
    assert site.dataset() == {**ORIGINAL, "inside": ORIGINAL["sample#1"]}
    (refused,) = client.workspace.walk().refused
    assert "outside" in refused


@pytest.mark.parametrize("name", ["growing", "log.txt"])
def test_a_file_that_changes_during_upload_fails_it_and_commits_nothing(directories: Iterator[Path], name: str) -> None:
    site = Site(filled(MemoryStorage()))
    client = Client(site, next(directories))
    client.claim()
    client.set_up()
    (client.workspace.root / name).write_bytes(b"1")
    walk = client.workspace.walk()
    (client.workspace.root / name).write_bytes(b"12")
    with pytest.raises(WorkspaceError, match=name):
        client.upload(walk)
    assert f"{PREFIX}/{published_manifest(1)}" not in site.storage.objects
    assert site.dataset() == ORIGINAL


def test_new_files_are_hashed_while_they_are_sent_and_the_manifest_has_their_sums(
    storage: Storage, directories: Iterator[Path]
) -> None:
    results = {"large": bytes(range(251)) * (LARGE // 250), "small": b"small", "empty": b""}

    def work(root: Path) -> None:
        for name, data in results.items():
            (root / name).write_bytes(data)

    site = Site(filled(storage))
    client = Client(site, next(directories))
    published = client.run(work)
    expected = {name: hashlib.md5(data).hexdigest() for name, data in (ORIGINAL | results).items()}
    assert {path: entry.md5 for path, entry in published.final.items()} == expected
    assert {path: source.md5 for path, source in site.inputs().files.items()} == expected
    # What was learnt while sending is known afterwards: nothing is hashed or sent again.
    assert client.run(lambda root: None).sent == 0
    assert site.dataset() == ORIGINAL | results


# --- Snakemake's records ---------------------------------------------------------------------------------------------


def test_snakemakes_records_are_those_of_the_committed_attempt(directories: Iterator[Path]) -> None:
    def version(text: bytes) -> Callable[[Path], None]:
        def work(root: Path) -> None:
            for path in (".snakemake/metadata/b3V0", "out"):
                (root / path).parent.mkdir(parents=True, exist_ok=True)
                (root / path).write_bytes(text)

        return work

    def records(client: Client) -> bytes:
        own_files.fetch_snakemake(site.storage, PREFIX, site.committed, client.workspace)
        return (client.workspace.root / ".snakemake/metadata/b3V0").read_bytes()

    site = Site(filled(MemoryStorage()))
    Client(site, next(directories)).run(version(b"v1"))
    lost = Client(site, next(directories))
    lost.claim()
    lost.set_up()
    version(b"v2")(lost.workspace.root)
    lost.upload()
    # From an empty folder, and where the lost attempt was: its output is the committed one again.
    for client in (Client(site, next(directories)), lost):
        client.claim()
        client.set_up()
        assert (client.workspace.root / "out").read_bytes() == b"v1"
        assert records(client) == b"v1"
    third = Client(site, next(directories))
    third.run(version(b"v3"))
    assert records(lost) == b"v3"
    assert [key for key in site.storage.objects if "/.crunch/snakemake/" in key] == [
        f"{PREFIX}/.crunch/snakemake/{third.fence}/metadata/b3V0"
    ]


def test_only_the_workflow_of_this_run_is_published(directories: Iterator[Path]) -> None:
    site = Site(filled(MemoryStorage()))
    client = Client(site, next(directories))
    client.workspace.write(".crunch/Snakefile", b"of an earlier run, when the project was Snakemake's")
    client.workspace.write(".crunch/script.sh", b"true")
    client.run()
    assert f"{PREFIX}/.crunch/script.sh" in site.storage.objects
    assert f"{PREFIX}/.crunch/Snakefile" not in site.storage.objects


# --- what attempts left, and what the commit says of it --------------------------------------------------------------


def making(**files: bytes) -> Callable[[Path], None]:
    def work(root: Path) -> None:
        for name, data in files.items():
            (root / name).write_bytes(data)

    return work


def test_what_an_attempt_sent_before_its_workflow_was_edited_is_no_input(directories: Iterator[Path]) -> None:
    site = Site(filled(MemoryStorage()))
    client = Client(site, next(directories))
    client.claim()
    client.set_up()
    making(v1=b"1", kept=b"one")(client.workspace.root)
    client.upload()
    # The process died before its commit; the same claim goes on, with another workflow.
    client.set_up()
    making(v2=b"2")(client.workspace.root)
    client.commit(client.upload())
    for _ in range(2):
        assert set(site.dataset()) == set(site.inputs().files) == {*ORIGINAL, "v2"}
        assert site.inputs().deleted == {"v1"}
        site.promote()
    assert not any("/attempts/" in key for key in site.storage.objects)


def test_all_that_lost_attempts_left_is_in_the_manifest_and_their_plans_go(directories: Iterator[Path]) -> None:
    site = Site(filled(MemoryStorage()))
    for number in range(3):
        lost = Client(site, next(directories))
        lost.claim()
        lost.set_up()
        making(**{f"lost_{number}": b"x", "out": b"x"})(lost.workspace.root)
        lost.upload()
    Client(site, next(directories)).run(making(out=b"right"))
    assert site.inputs().deleted == {"lost_0", "lost_1", "lost_2"}
    assert site.dataset() == {**ORIGINAL, "out": b"right"}
    assert not any("/attempts/" in key for key in site.storage.objects)
    # A run that was not fetched changes nothing of that.
    Client(site, next(directories), fetched=False).run(making(extra=b"more"))
    assert set(site.inputs().files) == set(site.dataset()) == {*ORIGINAL, "out", "extra"}


def test_a_file_put_back_under_a_deleted_name_stays_ignored_and_is_told(directories: Iterator[Path]) -> None:
    site = Site(filled(MemoryStorage()))
    Client(site, next(directories)).run(lambda root: (root / "unwanted").unlink())
    site.storage.write(f"{PREFIX}/unwanted", b"corrected, by a person")
    assert "unwanted" not in site.inputs().files
    assert "unwanted" in site.inputs().deleted


# --- runs whose files were not fetched -------------------------------------------------------------------------------


@pytest.mark.parametrize("tells_sums", [True, False])
def test_what_was_not_fetched_stays_the_datasets_and_its_bytes_live_until_the_commit(
    directories: Iterator[Path], tells_sums: bool
) -> None:
    site = Site(filled(MemoryStorage(tells_sums=tells_sums)))
    client = Client(site, next(directories), fetched=False)
    making(**{"kept": ORIGINAL["kept"], "local": b"only here"})(client.workspace.root)

    def work(root: Path) -> None:
        # It knows nothing of the stored file of this name.
        making(**{"log.txt": b"anew", "out": b"out"})(root)

    client.claim()
    client.set_up()
    work(client.workspace.root)
    published = client.upload()
    assert {**stored(site.storage), **ORIGINAL} == stored(site.storage)
    assert site.dataset() == ORIGINAL
    assert site.inputs().ignored == ("local", "out")
    client.commit(published)
    result = {**ORIGINAL, "log.txt": b"anew", "local": b"only here", "out": b"out"}
    assert site.dataset() == result
    site.promote()
    assert {path: site.storage.read(source.key) for path, source in site.inputs().files.items()} == result
    assert site.inputs().deleted == frozenset()
    if tells_sums:
        assert published.sent == 3
    # An unread file that is gone is missed as any other.
    site.storage.delete(f"{PREFIX}/sample#1")
    with pytest.raises(ObjectMissing, match=r"sample#1.*Reset, taking the files as they are"):
        site.inputs()


def test_a_local_copy_that_a_workflow_deletes_is_deleted_of_the_dataset(directories: Iterator[Path]) -> None:
    site = Site(filled(MemoryStorage()))
    client = Client(site, next(directories), fetched=False)
    making(kept=b"kept", local=b"never stored")(client.workspace.root)

    def work(root: Path) -> None:
        (root / "kept").unlink()
        (root / "local").unlink()

    client.run(work)
    assert set(site.dataset()) == set(ORIGINAL) - {"kept"}
    assert site.inputs().deleted == {"kept"}


def test_results_that_cannot_be_beside_what_was_not_fetched_are_refused(directories: Iterator[Path]) -> None:
    site = Site(filled(MemoryStorage()))
    client = Client(site, next(directories), fetched=False)
    client.claim()
    client.set_up()
    making(a=b"x")(client.workspace.root)
    (client.workspace.root / "kept").mkdir()
    making(x=b"x")(client.workspace.root / "kept")
    with pytest.raises(NamesRefused, match="file and a folder"):
        client.upload()
    assert stored(site.storage) == ORIGINAL


# --- inputs that change while the workflow runs ----------------------------------------------------------------------


@pytest.mark.parametrize("when", ["before the upload", "during it"])
@pytest.mark.parametrize("what", ["gone", "of another size", "of the same size"])
def test_an_input_that_changed_in_the_storage_during_the_run_is_not_committed(
    directories: Iterator[Path], what: str, when: str
) -> None:
    storage = FaultyStorage(filled(MemoryStorage(tells_sums=False)))
    site = Site(storage)
    client = Client(site, next(directories))
    client.claim()
    client.set_up()
    workflow(client.workspace.root)

    def meddle() -> None:
        if what == "gone":
            storage.storage.delete(f"{PREFIX}/kept")
        else:
            storage.storage.write(f"{PREFIX}/kept", b"longer" if "another" in what else b"TPEK")

    def during(_: Any) -> None:
        if any("results/part" in key for _, key in storage.writes):
            meddle()

    if when == "during it":
        client.hooks["progress"] = during
    else:
        meddle()
    with pytest.raises(StorageError, match=r"'kept'.*run it again"):
        client.upload()
    assert f"{PREFIX}/{published_manifest(1)}" not in storage.storage.objects
    if when != "during it":
        assert f"{PREFIX}/results/part-0" not in storage.storage.objects


def test_an_input_that_was_written_anew_with_the_same_bytes_is_as_it_was(directories: Iterator[Path]) -> None:
    site = Site(filled(MemoryStorage(tells_sums=False)))

    def rewrite(_: Path) -> None:
        site.storage.write(f"{PREFIX}/kept", b"kept")

    Client(site, next(directories)).run(rewrite)
    assert site.dataset() == ORIGINAL


# --- lists of files --------------------------------------------------------------------------------------------------


def test_a_list_of_files_leaves_out_what_lost_attempts_left_and_says_what_is_wrong_with_names(
    directories: Iterator[Path],
) -> None:
    site = Site(filled(MemoryStorage()))
    lost = Client(site, next(directories))
    lost.claim()
    lost.set_up()
    making(lost=b"x")(lost.workspace.root)
    lost.upload()
    site.storage.write(f"{PREFIX}/../x", b"")
    body = {"base_file_path": PREFIX}
    found = list_files(site.storage, body)
    assert set(found.files) == {*ORIGINAL, "../x"}
    assert set(found.problems) == {"../x"}
    assert (found.published, found.cut) == (False, False)
    some = list_files(site.storage, body, limit=2)
    assert (len(some.files), some.cut) == (2, True)
    for path in ("../x", "lost", "nowhere", ".crunch/dataset.json", plan_path(1)):
        assert find_file(site.storage, body, path) is None
    assert find_file(site.storage, body, "kept") == found.files["kept"]


def test_a_list_of_published_files_asks_for_no_listing_of_the_dataset(directories: Iterator[Path]) -> None:
    site = Site(filled(MemoryStorage()))
    client = Client(site, next(directories))
    client.claim()
    client.set_up()
    workflow(client.workspace.root)
    client.commit(client.upload())
    body = {"base_file_path": PREFIX, "manifest_sha256": site.sha256, "manifest_fence": site.committed}
    for key in (f"{PREFIX}/{staged_path(1, 'log.txt')}", f"{PREFIX}/log.txt"):
        assert list_files(site.storage, body).files["log.txt"].key == key
        found = find_file(site.storage, body, "log.txt")
        assert found is not None
        assert (found.key, found.size) == (key, len(RESULT["log.txt"]))
        site.promote()
    site.storage.calls.clear()
    some = list_files(site.storage, body, limit=3)
    assert (len(some.files), some.cut, some.published) == (3, True, True)
    assert "unwanted" not in list_files(site.storage, body).files
    assert find_file(site.storage, body, "unwanted") is None
