"""Publication: whatever is killed whenever, a dataset is its inputs until the commit and its results from then on."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest

from crunch_tasks.contract import WORKFLOW_LOG, published_manifest
from crunch_tasks.errors import LeaseLost
from crunch_tasks.files.plan import plan_path, staged_path
from crunch_tasks.files.storage import Storage
from crunch_tasks.files.workspace import Workspace
from crunch_tasks.testing import MemoryStorage
from tests.support.faulty import FaultyStorage, Killed, Rule
from tests.support.publishing import (
    ORIGINAL,
    PREFIX,
    RESULT,
    Client,
    Site,
    assert_is_the_result,
    filled,
    sent_by,
    stored,
    workflow,
)


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
