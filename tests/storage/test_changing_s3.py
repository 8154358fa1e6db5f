"""An S3 that changes under a transfer: objects vanish, change, or are refused half-way; each is named, none is half."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from crunch_tasks.errors import ObjectMissing, StorageError, TransferError
from crunch_tasks.files.download import download
from crunch_tasks.files.opening import open_storage
from crunch_tasks.files.storage import Storage
from tests.support.line import made, send, sources
from tests.support.proxy import Fault, Proxy, proxy
from tests.support.seaweed import SeaweedS3

pytestmark = pytest.mark.slow

MIB = 1024 * 1024
FILES = {"small": b"one small file", "big": os.urandom(MIB) * 17}
"""The second in three parts of 8 MiB."""


@pytest.fixture
def storage(s3: SeaweedS3, bucket: str, tmp_path: Path) -> Storage:
    opened = open_storage(s3.storage(bucket))
    send(opened, made(tmp_path / "there", FILES))
    return opened


@pytest.fixture
def line(s3: SeaweedS3) -> Iterator[Proxy]:
    with proxy(s3.endpoint) as running:
        yield running


@pytest.mark.parametrize("name", FILES)
def test_what_vanishes_after_the_listing_is_named(storage: Storage, tmp_path: Path, name: str) -> None:
    listed = sources(storage)
    storage.delete(f"p/d/{name}")
    work = made(tmp_path / "work", {})
    with pytest.raises(ObjectMissing, match=f"'p/d/{name}' is not in the storage"):
        download(storage, listed, work)
    assert not (work.root / name).exists()


@pytest.mark.parametrize("name", FILES)
def test_what_changes_after_the_listing_is_noticed(storage: Storage, tmp_path: Path, name: str) -> None:
    listed = sources(storage)
    send(storage, made(tmp_path / "other", {name: FILES[name][::-1]}))
    work = made(tmp_path / "work", {})
    with pytest.raises(TransferError, match=f"'p/d/{name}'"):
        download(storage, listed, work)
    assert not (work.root / name).exists()
    download(storage, sources(storage), work)
    assert (work.root / name).read_bytes() == FILES[name][::-1]


@pytest.mark.parametrize(("name", "refused"), [("small", "/small"), ("big", "partNumber=2"), ("big", "uploadId=")])
def test_a_write_that_is_refused_half_way_keeps_the_old_object_and_no_part(
    s3: SeaweedS3, bucket: str, storage: Storage, line: Proxy, tmp_path: Path, name: str, refused: str
) -> None:
    behind = open_storage(s3.storage(bucket, endpoint_url=line.endpoint))
    # The last case is the completion of the upload in parts: all of it is there, and it must not show.
    line.faults = [Fault("POST" if refused == "uploadId=" else "PUT", refused, status=403)]
    with pytest.raises(StorageError, match=f"The storage refused 'p/d/{name}'"):
        send(behind, made(tmp_path / "new", {name: FILES[name][::-1]}))
    assert storage.read(f"p/d/{name}") == FILES[name]
    assert "Uploads" not in s3._boto3().list_multipart_uploads(Bucket=bucket), "their parts would cost room for ever"


def test_what_a_killed_writer_left_half_is_removed_and_nobody_elses(s3: SeaweedS3, bucket: str) -> None:
    client = s3._boto3()
    for key in ("there/p/d/ours", "there/p/d/theirs", "there/p/d10/ours"):
        begun = client.create_multipart_upload(Bucket=bucket, Key=key)["UploadId"]
        client.upload_part(Bucket=bucket, Key=key, UploadId=begun, PartNumber=1, Body=b"half")
    opened = open_storage(s3.storage(bucket, "there"))
    opened.remove_unfinished("p/d/", lambda key: key == "p/d/ours")
    left = [upload["Key"] for upload in client.list_multipart_uploads(Bucket=bucket).get("Uploads", ())]
    assert sorted(left) == ["there/p/d/theirs", "there/p/d10/ours"]


def test_what_a_killed_writer_left_half_in_a_folder_is_removed(tmp_path: Path) -> None:
    for name in ("p/d/sub/.crunch-part-ab", "p/d/kept", "p/d10/.crunch-part-cd"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"half")
    options = {"BACKEND": "django.core.files.storage.FileSystemStorage", "OPTIONS": {"location": str(tmp_path)}}
    open_storage(options).remove_unfinished("p/d/", lambda _: True)
    left = sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file())
    assert left == ["p/d/kept", "p/d10/.crunch-part-cd"]
