"""Files that a page puts straight into a real S3: what counts at the end, what is refused, and who may send."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from django.contrib.auth.models import User
from django.test import Client

from crunch_tasks.contract import ClaimRequest
from crunch_tasks.files import signing
from crunch_tasks.files.opening import open_storage
from crunch_tasks.files.storage import Storage
from server.models import Change, Dataset, Membership, Project
from server.pages.middleware import POLICY
from server.services import catalogue, claims, direct_uploads, uploads
from server.services.uploads import alone
from tests.support.calls import signed_in
from tests.support.seaweed import SeaweedS3, seaweed
from tests.support.site import until

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("direct-uploads")]

LOCAL = {"HTTP_HOST": "127.0.0.1"}
"""The storage is on this machine, so only a browser on this machine reaches it."""


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SeaweedS3]:
    with seaweed(tmp_path_factory.mktemp("seaweed")) as running:
        running.make_bucket("direct")
        yield running


@pytest.fixture
def storage(settings: Any, s3: SeaweedS3, request: pytest.FixtureRequest) -> Storage:
    """The site's storage, in which there is nothing."""
    config = s3.storage("direct", location=request.node.name[:40])
    settings.STORAGES = {**settings.STORAGES, "default": config}
    return open_storage(config)


@pytest.fixture
def editor(project: Project) -> Client:
    return member(project, "editor")


def member(project: Project, role: str) -> Client:
    user = User.objects.create_user(role)
    Membership.objects.create(project=project, user=user, role=role)
    client = Client(**LOCAL)
    client.force_login(user)
    return client


def ask(client: Client, act: str, dataset: Dataset, path: str, **form: Any) -> Any:
    return client.post(f"/projects/{dataset.project.slug}/datasets/{dataset.slug}/{act}-upload/{path}", form)


def begin(client: Client, dataset: Dataset, path: str, data: bytes, **form: Any) -> Any:
    return ask(client, "begin", dataset, path, size=len(data), md5=hashlib.md5(data).hexdigest(), **form)


def put(begun: Any, data: bytes) -> int:
    told = begun.json()
    return httpx.put(told["address"], content=data, headers=told["headers"]).status_code


def end(client: Client, dataset: Dataset, path: str, begun: Any) -> Any:
    return ask(client, "end", dataset, path, ticket=begun.json()["ticket"])


def kept(storage: Storage) -> dict[str, bytes]:
    return {info.key: storage.read(info.key) for info in storage.list_objects("")}


def test_a_file_counts_when_it_is_whole_and_nothing_else_stays(
    editor: Client, dataset: Dataset, storage: Storage
) -> None:
    for path, name, data in (("raw/a%20b%23%C3%A4.txt", "raw/a b#ä.txt", b"x" * 70_000), ("empty", "empty", b"")):
        key = f"{dataset.base_file_path}/{name}"
        begun = begin(editor, dataset, path, data)
        assert put(begun, data) == 200
        assert storage.stat(key) is None, "not before the server looked at it"
        ended = end(editor, dataset, path, begun)
        assert (ended.status_code, ended.json()["md5"]) == (201, hashlib.md5(data).hexdigest())
        assert storage.read(key) == data
    assert len(kept(storage)) == 2
    assert Change.objects.filter(act="upload").earliest("pk").after == {"file": "raw/a b#ä.txt", "bytes": 70_000}


def test_a_program_sends_a_file_the_same_way(alice: User, dataset: Dataset, storage: Storage) -> None:
    api, uploads, data = signed_in(alice), f"/api/datasets/{dataset.slug}/uploads/", b"x" * 70_000
    told = {"path": "raw/a b#ä.txt", "size": len(data), "md5": hashlib.md5(data).hexdigest()}
    for replace in (False, True):
        begun = api.post(uploads, {**told, "replace": replace}, format="json")
        assert (begun.status_code, put(begun, data)) == (201, 200)
        ended = {"path": told["path"], "ticket": begun.json()["ticket"]}
        answer = api.post(f"{uploads}end/", ended, format="json")
        assert (answer.status_code, answer.json()) == (201, told)
        assert kept(storage) == {f"{dataset.base_file_path}/{told['path']}": data}
    assert api.post(uploads, told, format="json").json()["code"] == "exists"


def test_other_bytes_are_refused_by_the_storage_and_by_the_server(
    editor: Client, dataset: Dataset, storage: Storage
) -> None:
    begun = begin(editor, dataset, "a", b"right")
    assert [put(begun, data) for data in (b"wrong", b"right and more", b"righ")] == [400, 403, 403]
    elsewhere = begun.json()["address"].replace(direct_uploads.ARRIVING, f"{dataset.base_file_path}/")
    assert httpx.put(elsewhere, content=b"right", headers=begun.json()["headers"]).status_code == 403
    assert end(editor, dataset, "a", begun).json()["code"] == "not_as_sent"
    # As of a storage that binds no sum.
    for wrong in (b"wrong", b"right and more"):
        begun = begin(editor, dataset, "a", b"right")
        assert put(begun, b"right") == 200
        (arrived,) = kept(storage)
        storage.write(arrived, wrong)
        assert (end(editor, dataset, "a", begun).status_code, kept(storage)) == (409, {})


def test_whoever_lost_the_answer_may_ask_again(editor: Client, alice: User, dataset: Dataset, storage: Storage) -> None:
    begun, never = begin(editor, dataset, "a", b"right"), begin(editor, dataset, "b", b"right")
    assert put(begun, b"right") == 200
    first = end(editor, dataset, "a", begun)
    claims.claim(alice, ClaimRequest("r1", dataset=dataset.slug))
    again = end(editor, dataset, "a", begun)
    assert (first.status_code, again.status_code, again.json()) == (201, 201, first.json())
    assert Change.objects.filter(act="upload").count() == 1
    storage.write(f"{dataset.base_file_path}/a", b"other")
    for path, ticket in (("a", begun), ("b", never)):
        late = end(editor, dataset, path, ticket)
        assert (late.status_code, late.json()["code"]) == (409, "not_as_sent")
        assert f"'{path}' did not arrive, the end of this upload was refused before, or" in late.json()["detail"]
    assert kept(storage) == {f"{dataset.base_file_path}/a": b"other"}


def test_an_address_and_a_ticket_end(
    editor: Client, dataset: Dataset, storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(signing, "VALID_S", 1)
    begun = begin(editor, dataset, "a", b"x")
    until(lambda: put(begun, b"x") == 403, 10, "the address's end")
    monkeypatch.setattr(direct_uploads, "TICKET_S", -1)
    late = end(editor, dataset, "a", begun)
    assert (late.status_code, late.json()["code"]) == (409, "expired")
    assert storage.stat(f"{dataset.base_file_path}/a") is None


def test_what_nobody_ended_goes_when_it_is_old(
    editor: Client, dataset: Dataset, storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    def left() -> int:
        return len(list(storage.list_objects(direct_uploads.ARRIVING)))

    assert put(begin(editor, dataset, "aborted", b"half"), b"half") == 200
    for path in "ab":
        begun = begin(editor, dataset, path, b"x")
        assert put(begun, b"x") == 200
    assert end(editor, dataset, "b", begun).status_code == 201
    assert left() == 2
    later = SimpleNamespace(time=lambda: time.time() + 3 * 24 * 3600)
    monkeypatch.setattr(direct_uploads, "time", later)
    begun = begin(editor, dataset, "c", b"x")
    assert put(begun, b"x") == 200
    assert end(editor, dataset, "c", begun).status_code == 201
    assert left() == 0


@pytest.mark.parametrize("moment", ["before the end", "while the server looks"])
def test_nothing_is_added_to_a_dataset_that_is_claimed(
    editor: Client, alice: User, dataset: Dataset, storage: Storage, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    def claim_it(*_: Any) -> bool:
        return claims.claim(alice, ClaimRequest("r1", dataset=dataset.slug)) is not None

    begun = begin(editor, dataset, "a", b"x")
    assert put(begun, b"x") == 200
    if moment == "before the end":
        claim_it()
    else:
        monkeypatch.setattr(direct_uploads, "_is_there", claim_it)
    late = end(editor, dataset, "a", begun)
    assert (late.status_code, late.json()["code"]) == (409, "not_unprocessed")
    assert begin(editor, dataset, "a", b"x").json()["code"] == "not_unprocessed"
    assert kept(storage) == {}


def test_a_file_that_came_meanwhile_is_replaced_only_when_asked_to(
    editor: Client, dataset: Dataset, storage: Storage
) -> None:
    key = f"{dataset.base_file_path}/a"
    begun, replacing = begin(editor, dataset, "a", b"new"), begin(editor, dataset, "a", b"new", replace="")
    assert (put(begun, b"new"), put(replacing, b"new")) == (200, 200)
    storage.write(key, b"old")
    assert end(editor, dataset, "a", begun).json()["code"] == "exists"
    assert storage.read(key) == b"old"
    assert begin(editor, dataset, "a", b"new").json()["code"] == "exists"
    assert end(editor, dataset, "a", replacing).status_code == 201
    assert kept(storage) == {key: b"new"}


def test_of_two_who_send_one_name_at_once_one_is_told_so_and_nothing_is_lost(
    editor: Client, dataset: Dataset, storage: Storage
) -> None:
    key = f"{dataset.base_file_path}/a"
    begun = begin(editor, dataset, "a", b"second")
    put(begun, b"second")
    through = f"/projects/birds/datasets/{dataset.slug}/upload/a"
    with alone(dataset, "a"):
        storage.write(key, b"first")
        sent = editor.post(through, b"third", content_type="application/octet-stream", headers={"content-length": "5"})
        assert (sent.status_code, sent.json()["code"]) == (409, "exists")
        replaced = editor.post(f"{through}?replace", b"third", content_type="application/octet-stream")
        assert (replaced.status_code, replaced.json()["code"]) == (409, "busy")
        assert "Somebody else is sending 'a'" in end(editor, dataset, "a", begun).json()["detail"]
    assert end(editor, dataset, "a", begun).json()["code"] == "exists"
    assert kept(storage) == {key: b"first"}


def test_what_the_server_does_not_take_gets_no_address(
    editor: Client, dataset: Dataset, storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """X1."""
    for path in ("..", "a/../../x", "a%5Cb", "a%00b", ".crunch/manifest-1.json", "x" * 300):
        assert begin(editor, dataset, path, b"x").status_code in (400, 404)
    md5 = hashlib.md5(b"").hexdigest()
    for form in ({"size": "-1", "md5": md5}, {"size": 1, "md5": md5.upper()}, {"size": "9" * 5000, "md5": md5}, {}):
        assert ask(editor, "begin", dataset, "a", **form).json()["code"] == "sum"
    monkeypatch.setattr(uploads, "MOST_BYTES", 3)
    assert begin(editor, dataset, "a", b"1234").status_code == 413


def test_whoever_may_not_edit_gets_no_address_and_ends_nothing(
    editor: Client, project: Project, dataset: Dataset, storage: Storage
) -> None:
    """X8."""
    begun = begin(editor, dataset, "a", b"x")
    assert put(begun, b"x") == 200
    for client, status in ((Client(**LOCAL), 404), (member(project, "viewer"), 403)):
        assert begin(client, dataset, "a", b"x").status_code == status
        assert end(client, dataset, "a", begun).status_code == status
    another = catalogue.create_dataset(project, name="Another")
    for owner, path in ((another, "a"), (dataset, "b")):
        assert end(editor, owner, path, begun).json()["code"] == "ticket"
    assert ask(editor, "end", dataset, "a", ticket="made:up:x").json()["code"] == "ticket"
    assert not list(storage.list_objects("birds/"))


def test_only_the_page_that_uploads_may_talk_to_the_storage(
    editor: Client, project: Project, alice: User, dataset: Dataset, storage: Storage, s3: SeaweedS3
) -> None:
    def policy(client: Client, page: str = f"datasets/{dataset.slug}", **how: Any) -> str:
        answer = client.get(f"/projects/birds/{page}", **how)
        policy: str = answer.headers["Content-Security-Policy"]
        assert (s3.endpoint in answer.content.decode()) == (policy != POLICY)
        return policy

    assert policy(editor) == POLICY.replace("connect-src 'self'", f"connect-src 'self' {s3.endpoint}")
    # It is not sent to another machine's own port, nor from an https page to an http storage.
    unlike = [policy(editor, headers={"host": "testserver"}), policy(editor, secure=True), policy(editor, page="")]
    unlike.append(policy(member(project, "viewer")))
    assert {*unlike} == {POLICY}
    # An open page may take files again when the run is over.
    claims.claim(alice, ClaimRequest("r1", dataset=dataset.slug))
    assert policy(editor) != POLICY


def test_a_storage_that_signs_nothing_gets_files_through_the_server(
    editor: Client, dataset: Dataset, settings: Any, s3: SeaweedS3, tmp_path: Any
) -> None:
    folder = {"BACKEND": "django.core.files.storage.FileSystemStorage", "OPTIONS": {"location": str(tmp_path)}}
    # Headers that the site wants each object to have are none that a browser would send.
    for config in (folder, s3.storage("direct", object_parameters={"CacheControl": "no-store"})):
        settings.STORAGES = {**settings.STORAGES, "default": config}
        assert begin(editor, dataset, "a", b"x").json()["code"] == "through_server"
        page = editor.get(f"/projects/birds/datasets/{dataset.slug}")
        assert page.headers["Content-Security-Policy"] == POLICY
        assert "data-direct" not in page.content.decode()


def test_an_address_of_aws_is_the_buckets_own_in_its_region() -> None:
    """As others are redirected, which browsers do not follow when they ask whether they may send."""
    options = {"bucket_name": "birds", "region_name": "eu-west-1", "access_key": "k", "secret_key": "s"}
    signed = open_storage({"BACKEND": "storages.backends.s3.S3Storage", "OPTIONS": options}).signed_put(
        "a b", "x.txt", 1, hashlib.md5(b"x").hexdigest()
    )
    assert signed is not None
    assert signed.address.startswith("https://birds.s3.eu-west-1.amazonaws.com/a%20b?")
    assert "content-length%3Bcontent-md5%3Bcontent-type%3Bhost" in signed.address
    assert signed.headers == {"Content-MD5": "ndTkYSaMgDT1yFZOFVxnpg==", "Content-Type": "text/plain"}


def test_of_two_who_replace_a_file_that_they_read_the_second_is_refused(
    storage: Storage, alice: User, dataset: Dataset
) -> None:
    api, path = signed_in(alice), f"/api/datasets/{dataset.slug}/files/a"

    def send(data: bytes, **headers: str) -> int:
        octets = {"content_type": "application/octet-stream", "headers": headers}
        return int(api.generic("PUT", f"{path}?replace=true", data, **octets).status_code)

    assert send(b"old") == 201
    read = api.get(path)["ETag"]
    assert send(b"new", **{"If-Match": f'"0", {read}'}) == 201
    assert send(b"newer", **{"If-Match": read}) == 412
    assert send(b"newer", **{"If-Match": f"W/{api.get(path)['ETag']}"}) == 412
    assert send(b"newer", **{"If-None-Match": api.get(path)["ETag"]}) == 412
    assert list(kept(storage).values()) == [b"new"]
