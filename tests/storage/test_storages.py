"""What every storage promises, whoever does the work."""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from crunch_tasks.errors import (
    LeaseLost,
    NamesRefused,
    ObjectMissing,
    RenamingStorage,
    SettingsError,
    StorageError,
    TransferError,
    WorkspaceError,
)
from crunch_tasks.files.checksums import FileContent
from crunch_tasks.files.object_store import PART, ObjectStorage
from crunch_tasks.files.opening import open_storage
from crunch_tasks.files.storage import Storage
from tests.support.seaweed import SeaweedS3

HOSTILE_NAMES = [
    "-leading dash", "a b", "sample#1", "ä", "x%20y", "q?x=1", "plus+", "'quotes\"", "star*[a]{b}", "tilde~", "a&b;c",
    "x.gz", "x.tar.gz", "deep/er/and/deeper", "\u65e5\u672c\u8a9e", "n" * 255, "Upper", "empty",
]  # fmt: skip


def md5(data: bytes) -> str:
    return hashlib.md5(data).hexdigest()


def content(data: bytes, tmp_path: Path, *, claimed: str | None = None) -> FileContent:
    path = tmp_path / f"content-{md5(data)}"
    path.write_bytes(data)
    return FileContent(io.FileIO(path), "results.txt", len(data), claimed or md5(data))


def nothing() -> None:
    pass


def test_hostile_names_and_bytes_come_back_as_they_were(storage: Storage, tmp_path: Path) -> None:
    bodies = {f"p/d1/{name}": b"" if name == "empty" else b"\x1f\x8b" + name.encode() for name in HOSTILE_NAMES}
    for key, data in bodies.items():
        storage.send(content(data, tmp_path), key, nothing)
    listed = {info.key: info.size for info in storage.list_objects("p/d1/")}
    assert listed == {key: len(data) for key, data in bodies.items()}
    assert {key: storage.read(key) for key in bodies} == bodies


def test_a_prefix_is_a_folder_not_the_start_of_a_name(storage: Storage) -> None:
    storage.write("p/d1/x", b"1")
    storage.write("p/d10/x", b"10")
    assert [info.key for info in storage.list_objects("p/d1/")] == ["p/d1/x"]
    assert list(storage.list_objects("p/d2/")) == []


def test_overwriting_keeps_the_name(storage: Storage, tmp_path: Path) -> None:
    storage.check_overwrites("p/d1/")
    assert list(storage.list_objects("p/d1/")) == []
    storage.send(content(b"old and longer", tmp_path), "p/d1/a", nothing)
    info = storage.send(content(b"new", tmp_path), "p/d1/a", nothing)
    assert (info.key, info.size, info.md5) == ("p/d1/a", 3, md5(b"new"))
    assert storage.read("p/d1/a") == b"new"
    assert [found.key for found in storage.list_objects("p/")] == ["p/d1/a"]


def test_readers_see_the_old_object_until_the_new_one_is_complete(
    storage_of: Callable[[str], Storage], tmp_path: Path
) -> None:
    storage = storage_of("folder")
    storage.write("p/a", b"old")
    seen = []
    data = b"n" * (2 * PART)
    storage.send(content(data, tmp_path), "p/a", lambda: seen.append(storage.read("p/a")))
    assert seen == [b"old"]
    assert storage.read("p/a") == data
    assert [path.name for path in (tmp_path / "storage").rglob("*") if path.is_file()] == ["a"]


def test_what_a_listing_says_is_what_a_send_said(storage: Storage, tmp_path: Path) -> None:
    sent = storage.send(content(b"bytes", tmp_path), "p/a", nothing)
    (listed,) = storage.list_objects("p/")
    assert storage.stat("p/a") == listed
    assert (listed.size, listed.tag) == (sent.size, sent.tag)
    assert listed.md5 in (None, md5(b"bytes"))


def test_copy_and_delete(storage: Storage) -> None:
    storage.write("p/a b", b"one")
    storage.write("p/target#", b"old")
    storage.copy("p/a b", "p/target#")
    assert storage.read("p/target#") == b"one"
    storage.delete("p/a b")
    storage.delete("p/a b")
    assert storage.stat("p/a b") is None
    assert [info.key for info in storage.list_objects("p/")] == ["p/target#"]


def test_what_is_removed_while_it_is_listed_is_left_out(storage: Storage) -> None:
    for name in "abc":
        storage.write(f"p/{name}", b"x")
    listing = storage.list_objects("p/")
    seen = [next(listing).key]
    for name in "abc":
        storage.delete(f"p/{name}")
    seen += [info.key for info in listing]
    assert set(seen) <= {"p/a", "p/b", "p/c"}
    assert list(storage.list_objects("p/")) == []


def test_a_missing_object_is_named(storage: Storage) -> None:
    storage.write("p/there", b"1")
    assert storage.stat("p/nowhere") is None
    with pytest.raises(ObjectMissing, match="p/nowhere"):
        storage.read("p/nowhere")
    with pytest.raises(ObjectMissing, match="p/nowhere"):
        storage.copy("p/nowhere", "p/x")


@pytest.mark.parametrize("size", [5, 3 * PART + 17], ids=["small", "parts"])
def test_a_lost_lease_stops_a_write_before_it_shows(storage: Storage, tmp_path: Path, size: int) -> None:
    def refuse() -> None:
        raise LeaseLost

    with pytest.raises(LeaseLost):
        storage.send(content(b"x" * size, tmp_path), "p/never", refuse)
    assert list(storage.list_objects("p/")) == []


@pytest.mark.parametrize("size", [5, 3 * PART + 17], ids=["small", "parts"])
def test_a_file_that_changes_while_it_is_sent_never_shows(storage: Storage, tmp_path: Path, size: int) -> None:
    with pytest.raises(WorkspaceError, match=r"results\.txt"):
        storage.send(content(b"x" * size, tmp_path, claimed=md5(b"before")), "p/never", nothing)
    assert list(storage.list_objects("p/")) == []


def test_many_threads_mix_nothing_up(storage: Storage, tmp_path: Path) -> None:
    bodies = {f"p/{number % 7}/{number}": os.urandom(2000 + number) for number in range(60)}
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda item: storage.send(content(item[1], tmp_path), item[0], nothing), bodies.items()))
        assert dict(zip(bodies, pool.map(storage.read, bodies), strict=True)) == bodies


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


@pytest.mark.parametrize("key", ["/etc/passwd", "../outside", "p/../../outside", "p//x", "p/./x", "back\\slash", ""])
def test_a_folder_refuses_keys_that_lead_out(storage_of: Callable[[str], Storage], key: str) -> None:
    storage = storage_of("folder")
    storage.write("p/x", b"1")
    for work in (lambda: storage.read(key), lambda: storage.write(key, b"2"), lambda: storage.delete(key)):
        with pytest.raises(StorageError):
            work()


def test_a_folder_follows_links_only_inside_itself(tmp_path: Path) -> None:
    root = tmp_path / "root"
    (root / "p").mkdir(parents=True)
    (tmp_path / "secret").write_text("secret")
    (root / "p" / "file").write_text("inside")
    (root / "p" / "link").symlink_to("file")
    storage = open_storage(
        {"BACKEND": "django.core.files.storage.FileSystemStorage", "OPTIONS": {"location": str(root)}}
    )
    assert {info.key for info in storage.list_objects("p/")} == {"p/file", "p/link"}
    assert storage.read("p/link") == b"inside"
    (root / "p" / "out").symlink_to(tmp_path / "secret")
    (root / "q").symlink_to(tmp_path)
    for work in (
        lambda: list(storage.list_objects("p/")),
        lambda: storage.read("p/out"),
        lambda: storage.read("q/secret"),
        lambda: storage.write("q/written", b""),
        lambda: storage.delete("q/secret"),
    ):
        with pytest.raises(StorageError):
            work()
    assert (tmp_path / "secret").exists()


def test_a_fifo_in_a_storage_folder_hangs_nobody(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    storage = open_storage(
        {"BACKEND": "django.core.files.storage.FileSystemStorage", "OPTIONS": {"location": str(tmp_path)}}
    )
    with pytest.raises(StorageError, match="fifo"):
        storage.read("fifo")
    with pytest.raises(StorageError, match="fifo"):
        list(storage.list_objects(""))


def test_what_a_killed_writer_left_in_a_folder_is_not_listed(tmp_path: Path) -> None:
    (tmp_path / "p").mkdir()
    (tmp_path / "p" / ".crunch-part-0123456789abcdef").write_bytes(b"half")
    storage = open_storage(
        {"BACKEND": "django.core.files.storage.FileSystemStorage", "OPTIONS": {"location": str(tmp_path)}}
    )
    assert list(storage.list_objects("p/")) == []
    assert storage.stat("p/.crunch-part-0123456789abcdef") is None


def test_a_link_to_nothing_is_told(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("nowhere")
    storage = open_storage(
        {"BACKEND": "django.core.files.storage.FileSystemStorage", "OPTIONS": {"location": str(tmp_path)}}
    )
    with pytest.raises(ObjectMissing, match="link"):
        list(storage.list_objects(""))


def test_a_storage_that_renames_is_refused_before_any_data(tmp_path: Path) -> None:
    storage = open_storage({"BACKEND": "tests.support.storages.HashingStorage", "OPTIONS": {"location": str(tmp_path)}})
    with pytest.raises(RenamingStorage, match="kept"):
        storage.check_overwrites("p/d1/")
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({}, "BACKEND"),
        ({"BACKEND": "no.such.Storage"}, "no.such.Storage"),
        ({"BACKEND": "django.core.files.storage.FileSystemStorage", "OPTIONS": {"wrong": 1}}, "wrong"),
        ({"BACKEND": "django.core.files.storage.FileSystemStorage"}, "location"),
        ({"BACKEND": "storages.backends.s3.S3Storage", "OPTIONS": {"access_key": "a", "secret_key": "b"}}, "bucket"),
    ],
)
def test_a_storage_that_cannot_be_built_is_explained(config: dict[str, object], said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        open_storage(config)


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
