"""Files that a run did not fetch stay the dataset's."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from crunch_tasks.errors import NamesRefused, ObjectMissing
from crunch_tasks.testing import MemoryStorage
from tests.support.publishing import ORIGINAL, PREFIX, Client, Site, filled, making, stored


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
    with pytest.raises(ObjectMissing, match=r"sample#1.*Retry with new files"):
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
