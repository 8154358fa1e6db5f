"""S3: sums of parts, markers of folders, wrong keys, the options that matter, an upload that ends within its lease."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from crunch_tasks.errors import (
    NamesRefused,
    ObjectMissing,
    SettingsError,
    StorageError,
    TransferError,
)
from crunch_tasks.files.object_store import PART, ObjectStorage
from crunch_tasks.files.opening import open_storage
from crunch_tasks.files.storage import Storage
from tests.support.contents import content, nothing
from tests.support.seaweed import SeaweedS3
from tests.support.transfers import md5


@pytest.mark.slow
def test_large_objects_on_s3_are_verified_by_the_sum_of_their_parts(
    storage_of: Callable[[str], Storage], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = storage_of("s3")
    # Were the answer not enough, the object would be read back.
    monkeypatch.setattr(ObjectStorage, "_read_back", lambda *_: pytest.fail("the answer did not verify the upload"))
    data = os.urandom(2 * PART + 12345)
    info = storage.send(content(data, tmp_path), "p/large", nothing)
    assert info.etag is not None
    assert info.etag.endswith('-3"')
    assert md5(storage.read("p/large")) == md5(data)


@pytest.mark.slow
def test_folder_markers_of_consoles_are_no_files(s3: SeaweedS3, bucket: str) -> None:
    import boto3

    config = s3.storage(bucket)
    client = boto3.client(
        "s3",
        endpoint_url=s3.endpoint,
        region_name="us-east-1",
        aws_access_key_id=s3.access_key,
        aws_secret_access_key=s3.secret_key,
    )
    for key in ("p/", "p/dir/", "p/dir/file", "p/empty/"):
        client.put_object(Bucket=bucket, Key=key, Body=b"")
    assert [info.key for info in open_storage(config).list_objects("p/")] == ["p/dir/file"]
    client.put_object(Bucket=bucket, Key="p/new\nline", Body=b"")
    with pytest.raises(NamesRefused, match="new"):
        list(open_storage(config).list_objects("p/"))


@pytest.mark.slow
def test_wrong_keys_and_missing_buckets_are_said_without_secrets(s3: SeaweedS3, bucket: str) -> None:
    wrong = open_storage(s3.storage(bucket, access_key="nobody", secret_key="canary-secret"))
    for work in (lambda: wrong.read("p/x"), lambda: wrong.write("p/x", b""), lambda: list(wrong.list_objects("p/"))):
        with pytest.raises(StorageError) as caught:
            work()
        assert "InvalidAccessKeyId" in str(caught.value)
        assert "canary-secret" not in str(caught.value)
        assert not caught.value.retryable
    with pytest.raises(StorageError, match="NoSuchBucket") as missing:
        list(open_storage(s3.storage("no-such-bucket")).list_objects("p/"))
    assert not missing.value.retryable


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("default_acl", "public-read"),
        ("object_parameters", {"Tagging": "a=b"}),
        ("signature_version", "s3"),
        ("use_ssl", False),
        ("verify", "/no/such/bundle.pem"),
    ],
)
def test_s3_options_that_cannot_be_honoured_are_refused_by_name(option: str, value: object) -> None:
    options = {"bucket_name": "b", "access_key": "a", "secret_key": "canary-secret", option: value}
    with pytest.raises(SettingsError, match=option) as caught:
        open_storage({"BACKEND": "storages.backends.s3.S3Storage", "OPTIONS": options})
    assert "canary-secret" not in str(caught.value)


@pytest.mark.slow
def test_s3_options_that_matter_are_honoured(s3: SeaweedS3, bucket: str) -> None:
    config = s3.storage(
        bucket, "in/there", gzip=True, file_overwrite=False, object_parameters={"CacheControl": "max-age=60"}
    )
    storage = open_storage(config)
    storage.write("p/style.css", b"body {}")
    storage.write("p/style.css", b"body { }")
    import boto3

    client = boto3.client(
        "s3",
        endpoint_url=s3.endpoint,
        region_name="us-east-1",
        aws_access_key_id=s3.access_key,
        aws_secret_access_key=s3.secret_key,
    )
    answer = client.get_object(Bucket=bucket, Key="in/there/p/style.css")
    assert answer["Body"].read() == b"body { }"
    assert (answer["CacheControl"], answer["ContentType"]) == ("max-age=60", "text/css")
    assert "ContentEncoding" not in answer


class SlowS3(BaseHTTPRequestHandler):
    """Takes each part of an upload so long that, with the completion taking as long, a checked lease might be over."""

    protocol_version = "HTTP/1.1"
    answer_after_s = 0.6
    stop = threading.Event()
    completions: list[str] = []

    def log_message(self, *_: object) -> None:
        pass

    def do_PUT(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.stop.wait(self.answer_after_s)
        self._answer(b"", ETag=f'"{md5(body)}"')

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if "uploadId" in self.path:
            self.completions.append(self.path)
            self._answer(b'<CompleteMultipartUploadResult><ETag>"x-2"</ETag></CompleteMultipartUploadResult>')
        else:
            self._answer(b"<InitiateMultipartUploadResult><UploadId>u</UploadId></InitiateMultipartUploadResult>")

    def do_DELETE(self) -> None:
        self._answer(b"")

    def do_GET(self) -> None:
        self.send_error(404)

    def _answer(self, body: bytes, **headers: str) -> None:
        with contextlib.suppress(OSError):
            self.send_response(200)
            for name, value in {"Content-Length": str(len(body)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)


def test_an_upload_in_parts_ends_within_the_lease_that_was_asked_for(tmp_path: Path) -> None:
    server = ThreadingHTTPServer(("127.0.0.1", 0), SlowS3)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    options = {"bucket_name": "k", "access_key": "a", "secret_key": "b", "region_name": "us-east-1"}
    address = f"http://127.0.0.1:{server.server_port}"
    config = {"BACKEND": "storages.backends.s3.S3Storage", "OPTIONS": {**options, "endpoint_url": address}}
    storage = open_storage(config, timeout_s=1.0)
    try:
        # Each part takes more than half of the time, so nothing is left for the completion.
        with pytest.raises(TransferError):
            storage.send(content(b"x" * (PART + 5), tmp_path), "p/x", nothing)
        assert SlowS3.completions == []
        SlowS3.stop.set()
        with pytest.raises(ObjectMissing):
            # Its sum is none of these parts', so it is read back, and this server has nothing to read.
            storage.send(content(b"x" * (PART + 5), tmp_path), "p/x", nothing)
        assert len(SlowS3.completions) == 1
    finally:
        server.shutdown()
        server.server_close()
