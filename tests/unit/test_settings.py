"""Settings: what is missing or wrong is named with its option, variable, file, line and key."""

import json
from pathlib import Path

import pytest

from crunch_tasks import storage_settings
from crunch_tasks.errors import SettingsError
from crunch_tasks.settings import client_settings
from crunch_tasks.storage_settings import load_storage_settings, secrets_of


def write(tmp_path: Path, text: str, name: str = "storage.toml") -> Path:
    path = tmp_path / name
    path.write_text(text)
    return path


S3_TOML = """
[STORAGES.default]
BACKEND = "storages.backends.s3.S3Storage"
[STORAGES.default.OPTIONS]
bucket_name = "b"
endpoint_url = "http://127.0.0.1:1"
"""


def test_toml_and_json_say_the_same(tmp_path):
    from_toml = load_storage_settings(write(tmp_path, S3_TOML))
    body = {"STORAGES": {"default": {"BACKEND": from_toml["BACKEND"], "OPTIONS": from_toml["OPTIONS"]}}}
    assert load_storage_settings(write(tmp_path, json.dumps(body), "storage.json")) == from_toml
    assert from_toml["OPTIONS"] == {"bucket_name": "b", "endpoint_url": "http://127.0.0.1:1"}


@pytest.mark.parametrize(
    ("text", "backend", "options"),
    [
        (
            'DEFAULT_FILE_STORAGE = "storages.backends.s3boto3.S3Boto3Storage"\nAWS_ACCESS_KEY_ID = "a"\n'
            'AWS_SECRET_ACCESS_KEY = "s"\nAWS_STORAGE_BUCKET_NAME = "b"\nAWS_S3_ENDPOINT_URL = "http://h"\n'
            'AWS_S3_REGION_NAME = "r"\nAWS_DEFAULT_ACL = "private"\nAWS_LOCATION = "media"\nMEDIA_URL = "/m/"',
            "storages.backends.s3.S3Storage",
            {
                "access_key": "a",
                "secret_key": "s",
                "bucket_name": "b",
                "endpoint_url": "http://h",
                "region_name": "r",
                "default_acl": "private",
                "location": "media",
            },
        ),
        (
            'DEFAULT_FILE_STORAGE = "storages.backends.gcloud.GoogleCloudStorage"\nGS_BUCKET_NAME = "b"',
            "storages.backends.gcloud.GoogleCloudStorage",
            {"bucket_name": "b"},
        ),
        (
            'DEFAULT_FILE_STORAGE = "storages.backends.azure_storage.AzureStorage"\n'
            'AZURE_ACCOUNT_NAME = "n"\nAZURE_CONTAINER = "c"',
            "storages.backends.azure_storage.AzureStorage",
            {"account_name": "n", "azure_container": "c"},
        ),
        (
            'DEFAULT_FILE_STORAGE = "storages.backends.sftpstorage.SFTPStorage"\n'
            'SFTP_STORAGE_HOST = "h"\nSFTP_STORAGE_ROOT = "/data"',
            "storages.backends.sftpstorage.SFTPStorage",
            {"host": "h", "root_path": "/data"},
        ),
    ],
)
def test_older_django_names_are_translated(tmp_path, text, backend, options):
    assert load_storage_settings(write(tmp_path, text)) == {"BACKEND": backend, "OPTIONS": options}


def test_media_root_is_a_folder_beside_the_file(tmp_path):
    loaded = load_storage_settings(write(tmp_path, 'MEDIA_ROOT = "files"'))
    assert loaded["OPTIONS"] == {"location": str(tmp_path / "files")}


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("s.toml", "[STORAGES\n", "line 1"),
        ("s.json", '{\n"STORAGES": }', "line 2: not valid JSON"),
        ("s.toml", S3_TOML + 'bucket_nam = "b"\n', "line 7: bucket_nam: unknown option"),
        ("s.toml", 'MEDIA_ROOT = "f"\nAWS_LOCATION = "x"\n', "line 2: AWS_LOCATION: unknown setting"),
        ("s.toml", "MEDIA_URL = '/m/'", "no storage is named"),
        ("s.toml", "\nMEDIA_RUT = '/m/'", "line 2: MEDIA_RUT: unknown setting"),
        ("s.toml", "[STORAGES.defualt]\nBACKEND = 'x'\n", 'STORAGES: needs an entry "default"'),
        ("s.toml", S3_TOML.replace("BACKEND", "BACKED"), "line 3: BACKED: unknown setting"),
        ("s.json", "[]", "expected settings by name"),
    ],
)
def test_a_wrong_file_is_named_with_line_and_key(tmp_path, name, text, said):
    path = write(tmp_path, text, name)
    with pytest.raises(SettingsError) as caught:
        load_storage_settings(path)
    assert str(path) in str(caught.value)
    assert said in str(caught.value)
    assert caught.value.exit_code == 2


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(SettingsError, match=r"none\.toml: there is no such"):
        load_storage_settings(tmp_path / "none.toml")


def test_the_options_we_know_are_those_of_the_installed_backends():
    """A new django-storages release may add an option; then this table must know it."""
    from django.conf import settings

    if not settings.configured:
        settings.configure()
    from storages.backends.s3 import S3Storage
    from storages.backends.sftpstorage import SFTPStorage

    for known, storage in ((storage_settings.S3, S3Storage), (storage_settings.SFTP, SFTPStorage)):
        assert set(storage.get_default_settings(storage)) <= known.options


def test_secrets_are_found_in_nested_options():
    config = {"OPTIONS": {"secret_key": "S", "bucket_name": "b", "params": {"password": "P", "port": 22}}}
    assert sorted(secrets_of(config)) == ["P", "S"]


def test_given_values_come_before_the_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("CRUNCH_URL", "http://from.environment/")
    monkeypatch.setenv("CRUNCH_DIRECTORY", "relative")
    monkeypatch.chdir(tmp_path)
    assert client_settings().url == "http://from.environment"
    assert client_settings(url="http://given").url == "http://given"
    assert client_settings().directory == tmp_path / "relative"


def test_what_is_missing_names_the_option_and_the_variable(monkeypatch):
    monkeypatch.delenv("CRUNCH_TOKEN", raising=False)
    with pytest.raises(SettingsError, match=r"--token.*CRUNCH_TOKEN"):
        client_settings(url="http://h").require("url", "token")


def test_a_url_that_is_none_names_the_option_and_the_variable():
    with pytest.raises(SettingsError, match=r"--url or CRUNCH_URL: 'h' is not a web address"):
        client_settings(url="h")


def test_the_low_water_mark_is_read_as_people_write_sizes(monkeypatch):
    for text, size in {"0": 0, "2 GB": 2 * 10**9, "1.5MiB": 3 * 2**19}.items():
        monkeypatch.setenv("CRUNCH_LOW_WATER", text)
        assert client_settings().low_water == size
    monkeypatch.setenv("CRUNCH_LOW_WATER", "much")
    with pytest.raises(SettingsError, match=r"^CRUNCH_LOW_WATER: write a size such as 200G or 500MB\.$"):
        client_settings()


def test_the_token_is_not_in_a_printed_settings_object():
    assert "canary" not in repr(client_settings(token="canary"))
