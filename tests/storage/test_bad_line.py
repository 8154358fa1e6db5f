"""A line to S3 that cuts, truncates and flips: all is noticed, what can be had is had, nothing is taken twice."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import obstore
import pytest

from crunch_tasks.errors import TransferError, WorkspaceError
from crunch_tasks.files import object_store
from crunch_tasks.files.checksums import compute_manifest
from crunch_tasks.files.comparison import Sign, compare_folder
from crunch_tasks.files.download import download
from crunch_tasks.files.object_store import RANGE
from crunch_tasks.files.opening import open_storage
from crunch_tasks.files.plan import Source
from crunch_tasks.files.storage import LARGE, Storage
from crunch_tasks.files.upload import upload
from crunch_tasks.files.workspace import OwnFolder, Workspace
from tests.support.line import made, send, sources
from tests.support.proxy import Fault, Proxy, flip, proxy
from tests.support.seaweed import SeaweedS3

pytestmark = pytest.mark.slow

MIB = 1024 * 1024
SMALL = b"one small file"
BIG = os.urandom(MIB) * 20
"""20 MiB, sent in parts of 8."""


@pytest.fixture
def line(s3: SeaweedS3) -> Iterator[Proxy]:
    with proxy(s3.endpoint) as running:
        yield running


@pytest.fixture
def direct(s3: SeaweedS3, bucket: str) -> Storage:
    """The storage itself."""
    return open_storage(s3.storage(bucket))


@pytest.fixture
def storage(s3: SeaweedS3, bucket: str, line: Proxy, direct: Storage, tmp_path: Path) -> Storage:
    """The storage behind the line, with both files."""
    there = made(tmp_path / "there", {"small": SMALL, "big": BIG})
    send(direct, there)
    return open_storage(s3.storage(bucket, endpoint_url=line.endpoint))


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return made(tmp_path / "work", {})


def spoil(name: str) -> Fault:
    return {
        "flipped": Fault("GET", "", flip(7)),
        "truncated": Fault("GET", "", lambda body: body[:-3]),
    }[name]


@pytest.mark.parametrize("how", ["flipped", "truncated"])
@pytest.mark.parametrize("name", ["small", "big"])
@pytest.mark.parametrize("earlier_manifest", [True, False])
def test_spoilt_bytes_are_fetched_again_and_named_when_they_stay_spoilt(
    storage: Storage, workspace: Workspace, line: Proxy, how: str, name: str, earlier_manifest: bool
) -> None:
    wanted = sources(storage, name)
    if earlier_manifest:
        md5 = hashlib.md5({"small": SMALL, "big": BIG}[name]).hexdigest()
        wanted = {name: replace(wanted[name], md5=md5, tag=None)}
    line.faults = [replace(spoil(how), key=f"/{name}")]
    with pytest.raises(TransferError, match=f"p/d/{name}.*"):
        download(storage, wanted, workspace)
    assert not (workspace.root / name).exists()
    line.faults = [replace(spoil(how), key=f"/{name}", times=1)]
    download(storage, wanted, workspace)
    assert (workspace.root / name).read_bytes() == {"small": SMALL, "big": BIG}[name]


def test_a_connection_that_breaks_is_tried_again_then_the_object_is_named(
    storage: Storage, workspace: Workspace, line: Proxy
) -> None:
    line.faults = [Fault("GET", "/big", reset_after=MIB, times=2), Fault("GET", "/small", reset_after=3, times=1)]
    download(storage, sources(storage), workspace)
    assert (workspace.root / "big").read_bytes() == BIG
    assert (workspace.root / "small").read_bytes() == SMALL
    (workspace.root / "big").unlink()
    line.faults = [Fault("GET", "/big", reset_after=MIB)]
    with pytest.raises(TransferError, match="'p/d/big'"):
        download(storage, sources(storage), workspace)


def test_an_interrupted_download_of_a_large_object_goes_on_where_it_was(
    storage: Storage, workspace: Workspace, line: Proxy
) -> None:
    half = f"bytes={2 * RANGE}-"
    line.faults = [Fault("GET", "/big", reset_after=0)]
    real = Fault.applies
    # The third range and all later ones break.
    line.faults[0].applies = (
        lambda method, path: (  # type: ignore[method-assign]
            real(line.faults[0], method, path) and int(line.asked[-1][2][6:].split("-")[0] or 0) >= 2 * RANGE
        )
    )
    with pytest.raises(TransferError):
        download(storage, sources(storage, "big"), workspace)
    (partial,) = workspace.partial.iterdir()
    assert partial.stat().st_size == 2 * RANGE
    line.faults, line.asked, line.bytes_read = [], [], 0
    # Another process, the same folders.
    again = Workspace(workspace.directory, workspace.slug)
    wanted = sources(storage, "big")
    line.asked.clear()
    download(storage, wanted, again)
    assert (workspace.root / "big").read_bytes() == BIG
    ranges = [told for method, path, told in line.asked if method == "GET" and path.endswith("/big")]
    assert min(ranges, key=lambda told: int(told[6:].split("-")[0])).startswith(half)
    assert list(again.partial.iterdir()) == []


def test_what_was_fetched_of_another_version_is_not_gone_on_with(
    storage: Storage, direct: Storage, workspace: Workspace, line: Proxy, tmp_path: Path
) -> None:
    line.faults = [Fault("GET", "/big", reset_after=MIB)]
    with pytest.raises(TransferError):
        download(storage, sources(storage, "big"), workspace)
    line.faults = []
    other = BIG[: 15 * MIB] + b"another end"
    stale = sources(storage, "big")
    send(direct, made(tmp_path / "other", {"big": other}))
    with pytest.raises(TransferError, match="'p/d/big' changed"):
        download(storage, stale, workspace)
    download(storage, sources(storage, "big"), workspace)
    assert (workspace.root / "big").read_bytes() == other


@pytest.mark.parametrize("part", [5 * MIB, 8 * MIB, 6 * MIB + 1])
def test_objects_that_others_sent_in_parts_are_proved_whatever_their_size(
    storage: Storage, direct: Storage, workspace: Workspace, line: Proxy, part: int
) -> None:
    writer = direct._writer  # type: ignore[attr-defined]
    obstore.put(writer, "p/d/foreign", BIG, use_multipart=True, chunk_size=part)
    wanted = sources(storage, "foreign")
    assert wanted["foreign"].md5 is None
    line.faults = [Fault("GET", "/foreign", flip(3))]
    with pytest.raises(TransferError, match=r"arrived wrong: .* is [0-9a-f]{32}-\d, expected [0-9a-f]{32}-\d"):
        download(storage, wanted, workspace)
    line.faults = []
    download(storage, wanted, workspace)
    assert (workspace.root / "foreign").read_bytes() == BIG


@pytest.mark.parametrize("name", ["small", "big"])
def test_an_upload_that_is_spoilt_or_cut_leaves_no_wrong_object(
    storage: Storage, direct: Storage, line: Proxy, tmp_path: Path, name: str
) -> None:
    data = {"small": b"two small files", "big": BIG[::-1]}[name]
    there = made(tmp_path / "new", {name: data})
    line.faults = [Fault("PUT", f"/{name}", reset_after=4)]
    with pytest.raises(TransferError, match=f"p/d/{name}"):
        send(storage, there)
    assert direct.read(f"p/d/{name}") == {"small": SMALL, "big": BIG}[name]
    line.faults = [Fault("PUT", f"/{name}", flip(4))]
    with pytest.raises(TransferError, match=f"p/d/{name}.*did not arrive as it was sent"):
        send(storage, there)
    line.faults = [Fault("PUT", f"/{name}", flip(4), times=1)]
    send(storage, there)
    assert direct.read(f"p/d/{name}") == data


def test_a_large_file_that_changes_while_it_is_sent_is_refused(storage: Storage, line: Proxy, tmp_path: Path) -> None:
    there = made(tmp_path / "new", {"big": BIG[::-1]})
    walk = there.walk()
    manifest = compute_manifest(there.root, walk, there.hashes, part_size=storage.part_size)
    changing = Fault("POST", "/big", lambda body: (there.root / "big").write_bytes(BIG) and body)
    line.faults = [replace(changing, times=1)]
    with pytest.raises(WorkspaceError, match=r"'big'.*changed"):
        upload(storage, {"big": "p/d/big"}, there, walk, manifest)


def test_a_sum_that_a_storage_tells_only_when_asked_is_asked_for(
    s3: SeaweedS3, bucket: str, line: Proxy, workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on Azure, which keeps a Content-MD5 and has no MD5 in its ETag."""
    monkeypatch.setattr(object_store, "md5_of", lambda _: None)
    storage = open_storage(s3.storage(bucket, endpoint_url=line.endpoint))
    kept = {"p/d/small": hashlib.md5(SMALL).hexdigest()}
    storage._content_md5 = kept.get  # type: ignore[attr-defined]
    send(storage, made(tmp_path / "there", {"small": SMALL}))
    assert not any(method == "GET" and path.endswith("/small") for method, path, _ in line.asked)
    wanted = sources(storage, "small")
    assert wanted["small"].md5 is None
    line.faults = [Fault("GET", "/small", flip(3))]
    with pytest.raises(TransferError, match=f"arrived wrong: .* expected {kept['p/d/small']}"):
        download(storage, wanted, workspace)
    line.faults = []
    download(storage, wanted, workspace)
    assert (workspace.root / "small").read_bytes() == SMALL
    kept["p/d/small"] = hashlib.md5(b"other bytes").hexdigest()
    send(storage, made(tmp_path / "again", {"small": SMALL}))
    assert any(method == "GET" and path.endswith("/small") for method, path, _ in line.asked[-3:])


def test_a_partial_file_that_nothing_can_prove_is_of_this_boot_only(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    from crunch_tasks.files import fetching as module

    bare = Source("p/d/x", LARGE + 1, None, 1, "some-version")
    names = {
        tag: module.partial_name(replace(bare, **known))
        for tag, known in (("bare", {}), ("summed", {"md5": "0" * 32}), ("parts", {"tag": f'"{"0" * 32}-2"'}))
    }  # type: ignore[arg-type]
    monkeypatch.setattr(module, "_boot_id", lambda: "another boot")
    assert module.partial_name(bare) != names["bare"]
    assert module.partial_name(replace(bare, md5="0" * 32)) == names["summed"]
    # What encrypts may make such an ETag that proves nothing.
    assert module.partial_name(replace(bare, tag=f'"{"0" * 32}-2"')) != names["parts"]


def test_objects_in_parts_of_unequal_size_are_taken_and_compare_equal(
    s3: SeaweedS3, bucket: str, direct: Storage, workspace: Workspace, tmp_path: Path
) -> None:
    line = s3._boto3()
    key = {"Bucket": bucket, "Key": "p/d/uneven"}
    upload_id = line.create_multipart_upload(**key)["UploadId"]
    parts, start = [], 0
    for number, size in enumerate((5 * MIB, 12 * MIB, 3 * MIB), 1):
        body = BIG[start : start + size]
        tag = line.upload_part(**key, UploadId=upload_id, PartNumber=number, Body=body)["ETag"]
        parts.append({"PartNumber": number, "ETag": tag})
        start += size
    line.complete_multipart_upload(**key, UploadId=upload_id, MultipartUpload={"Parts": parts})
    download(direct, sources(direct), workspace)
    assert (workspace.root / "uneven").read_bytes() == BIG
    folder = OwnFolder(tmp_path / "directory", "p:d", workspace.root)
    folder.make()
    dataset = {"base_file_path": "p/d", "manifest_sha256": "", "manifest_fence": 0}
    assert [row.sign for row in compare_folder(direct, dataset, folder)] == [Sign.SAME]
