"""System checks: settings that are not safe are pointed out, and those that are, are not."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import pytest
from django.core import checks
from django.db.utils import ConnectionHandler
from django.test import override_settings

from crunch_tasks.files import mounts
from server import checks as server_checks
from server.site import environment


def warned(*tags: str, **options: Any) -> set[str]:
    """The ids of the warnings of these kinds of checks."""
    return {message.id or "" for message in checks.run_checks(tags=[*tags], **options)}


def test_a_site_that_is_open_shows_no_code_and_has_a_name() -> None:
    with override_settings(DEBUG=True, ALLOWED_HOSTS=["localhost"]):
        assert not warned("security") & {"crunch.W007", "crunch.W008"}
    with override_settings(DEBUG=True, ALLOWED_HOSTS=["crunch.example.org"]):
        assert warned("security") & {"crunch.W007", "crunch.W008"} == {"crunch.W007"}
    with override_settings(DEBUG=False, ALLOWED_HOSTS=["*"]):
        assert warned("security") & {"crunch.W007", "crunch.W008"} == {"crunch.W008"}


@pytest.mark.parametrize(
    ("address", "found"),
    [
        ("postgresql://u:p@db.example.org/crunch", True),
        ("postgresql://u:p@10.0.0.5/crunch?sslmode=prefer", True),
        ("postgresql://u:p@db.example.org/crunch?sslmode=verify-full", False),
        ("postgresql://u:p@127.0.0.1/crunch", False),
        ("postgresql:///crunch", False),
        ("postgresql://%2Fvar%2Frun%2Fpostgresql/crunch", False),
    ],
)
def test_a_database_elsewhere_without_tls_is_pointed_out(
    address: str, found: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CRUNCH_DATABASE_URL", address)
    monkeypatch.setattr(server_checks, "connections", ConnectionHandler({"default": environment.database()}))
    assert ("crunch.W006" in warned("database", databases=["default"])) == found


def test_files_with_keys_that_everybody_can_read_are_pointed_out(monkeypatch: pytest.MonkeyPatch) -> None:
    # Not in pytest's own folder, which is closed to others.
    with tempfile.TemporaryDirectory() as name:
        folder, storage = Path(name), Path(name) / "storage.toml"
        storage.write_text("")
        monkeypatch.setenv("CRUNCH_STORAGE_SETTINGS", str(storage))
        for mode, folder_mode, options, found in (
            (0o644, 0o755, {"bucket_name": "b", "secret_key": "k"}, True),
            (0o644, 0o700, {"bucket_name": "b", "secret_key": "k"}, False),
            (0o640, 0o755, {"bucket_name": "b", "secret_key": "k"}, False),
            (0o644, 0o755, {"bucket_name": "b"}, False),
        ):
            storage.chmod(mode)
            folder.chmod(folder_mode)
            with override_settings(STORAGES=s3_storage(**options)):
                assert ("crunch.W009" in warned("security")) == found


def s3_storage(**options: str) -> dict[str, Any]:
    return {"default": {"BACKEND": "storages.backends.s3.S3Storage", "OPTIONS": options}}


def test_a_storage_elsewhere_without_tls_is_pointed_out() -> None:
    for endpoint, found in {
        "http://s3.example.org": True,
        "https://s3.example.org": False,
        "http://127.0.0.1:8333": False,
    }.items():
        with override_settings(STORAGES=s3_storage(bucket_name="b", endpoint_url=endpoint)):
            assert ("crunch.W010" in warned("security")) == found


def test_a_folder_that_other_machines_do_not_have_is_pointed_out_before_deploying(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = tmp_path / "mountinfo"
    monkeypatch.setattr(mounts, "MOUNT_TABLE", table)
    for kind, host, found in (
        ("ext4", "crunch.example.org", True),
        ("ext4", "localhost", False),
        ("nfs4", "crunch.example.org", False),
    ):
        table.write_text(f"1 1 0:1 / / rw - {kind} server:/home rw\n")
        with override_settings(ALLOWED_HOSTS=[host]):
            assert ("crunch.W011" in warned("security", include_deployment_checks=True)) == found
            assert "crunch.W011" not in warned("security")
