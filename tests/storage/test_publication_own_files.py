"""Of Crunch's and Snakemake's own files the right ones travel, and those of this run only."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from crunch_tasks.contract import DATASET_JSON, WORKFLOW_LOG
from crunch_tasks.files import own_files
from crunch_tasks.testing import MemoryStorage
from tests.support.publishing import ORIGINAL, PREFIX, Client, Site, filled


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
