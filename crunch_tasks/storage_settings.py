"""The storage settings file, the same for the server and every client: read, translate, and name what is wrong.

The file is TOML or JSON and holds what a Django site's settings would: `STORAGES`, or the older names
(`DEFAULT_FILE_STORAGE`, `AWS_*`, `GS_*`, `AZURE_*`, `SFTP_*`, `MEDIA_ROOT`), which Django 5 ignores without a word.
The option names are those of Django 5.2 and django-storages 1.14 (each backend's `get_default_settings`).
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from crunch_tasks.errors import SettingsError


@dataclass(frozen=True)
class Backend:
    """A storage class of which every option is known, so that a misspelt one is found before it is used."""

    dotted: str
    aliases: tuple[str, ...]
    older_prefix: str
    options: frozenset[str]
    older: Mapping[str, str] = field(default_factory=dict)
    """Older settings whose option is not the name without its prefix in lower case."""


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


FOLDER = Backend(
    "django.core.files.storage.FileSystemStorage",
    ("django.core.files.storage.filesystem.FileSystemStorage",),
    "MEDIA_",
    _words("location base_url file_permissions_mode directory_permissions_mode allow_overwrite"),
    {"MEDIA_ROOT": "location", "MEDIA_URL": "base_url"},
)
S3 = Backend(
    "storages.backends.s3.S3Storage",
    ("storages.backends.s3boto3.S3Boto3Storage", "storages.backends.s3.S3Boto3Storage"),
    "AWS_",
    _words(
        "access_key secret_key security_token session_profile file_overwrite object_parameters bucket_name"
        " querystring_auth querystring_expire signature_version location custom_domain cloudfront_key_id cloudfront_key"
        " cloudfront_signer addressing_style file_name_charset gzip gzip_content_types url_protocol endpoint_url"
        " proxies region_name use_ssl verify max_memory_size default_acl use_threads transfer_config client_config"
    ),
    {
        "AWS_ACCESS_KEY_ID": "access_key",
        "AWS_S3_ACCESS_KEY_ID": "access_key",
        "AWS_SECRET_ACCESS_KEY": "secret_key",
        "AWS_S3_SECRET_ACCESS_KEY": "secret_key",
        "AWS_SESSION_TOKEN": "security_token",
        "AWS_STORAGE_BUCKET_NAME": "bucket_name",
        "AWS_IS_GZIPPED": "gzip",
    },
)
GCS = Backend(
    "storages.backends.gcloud.GoogleCloudStorage",
    (),
    "GS_",
    _words(
        "project_id credentials bucket_name custom_endpoint location default_acl querystring_auth expiration gzip"
        " gzip_content_types file_overwrite object_parameters max_memory_size blob_chunk_size iam_sign_blob sa_email"
    ),
    {"GS_IS_GZIPPED": "gzip"},
)
AZURE = Backend(
    "storages.backends.azure_storage.AzureStorage",
    (),
    "AZURE_",
    _words(
        "account_name account_key object_parameters azure_container azure_ssl upload_max_conn timeout max_memory_size"
        " expiration_secs overwrite_files location default_content_type cache_control sas_token endpoint_suffix"
        " custom_domain connection_string token_credential api_version client_options"
    ),
    {
        "AZURE_CONTAINER": "azure_container",
        "AZURE_SSL": "azure_ssl",
        "AZURE_CONNECTION_TIMEOUT_SECS": "timeout",
        "AZURE_BLOB_MAX_MEMORY_SIZE": "max_memory_size",
        "AZURE_URL_EXPIRATION_SECS": "expiration_secs",
    },
)
SFTP = Backend(
    "storages.backends.sftpstorage.SFTPStorage",
    (),
    "SFTP_",
    _words("host params interactive file_mode dir_mode uid gid known_host_file root_path base_url"),
    {"SFTP_STORAGE_ROOT": "root_path", "SFTP_KNOWN_HOST_FILE": "known_host_file", "SFTP_BASE_URL": "base_url"},
)
BACKENDS = (FOLDER, S3, GCS, AZURE, SFTP)


@dataclass(frozen=True)
class _Document:
    """A settings file's content, able to say where a key stands."""

    path: Path
    text: str
    values: Mapping[str, Any]

    def error(self, key: str, problem: str) -> SettingsError:
        pattern = re.compile(rf"""^[\s\[{{,]*["']?(?:[\w.]+\.)?{re.escape(key)}["']?\s*[]=:]""")
        lines = (number for number, line in enumerate(self.text.splitlines(), 1) if pattern.match(line))
        line = next(lines, None)
        place = f"{self.path}, line {line}" if line else str(self.path)
        return SettingsError(f"{place}: {key}: {problem}")


def load_storage_settings(path: Path | str) -> dict[str, Any]:
    """Read a storage settings file as `{"BACKEND": dotted path of a Django storage class, "OPTIONS": {...}}`.

    A relative folder in it is taken from where the file stands, so that server and clients mean the same one.
    Raises SettingsError, naming the file, the line and the key.
    """
    document = _read(Path(path).expanduser())
    found = _from_storages(document) if "STORAGES" in document.values else _from_older_names(document)
    backend = backend_named(found["BACKEND"])
    if backend is not None:
        _check_options(document, backend, found["OPTIONS"])
        found["BACKEND"] = backend.dotted
    if backend is FOLDER:
        location = found["OPTIONS"].get("location")
        if not isinstance(location, str) or not location:
            raise document.error(
                "location", "a folder storage needs the folder's path, such as location = '/data/crunch'"
            )
        found["OPTIONS"]["location"] = str((document.path.parent / Path(location).expanduser()).absolute())
    return found


def backend_named(dotted: str) -> Backend | None:
    """The known backend with this dotted path or one of its older ones; None for a storage class we do not know."""
    return next((known for known in BACKENDS if dotted == known.dotted or dotted in known.aliases), None)


def secrets_of(config: Mapping[str, Any]) -> list[str]:
    """Every string among a storage's options that is a secret by its name, to be kept out of child processes."""
    secret = re.compile(
        r"secret|password|passphrase|token|credential|account_key|access_key|connection_string|private", re.I
    )

    def strings(value: object, named: bool) -> list[str]:
        if isinstance(value, Mapping):
            return [s for key, inner in value.items() for s in strings(inner, named or bool(secret.search(str(key))))]
        return [value] if named and isinstance(value, str) and value else []

    return strings(config.get("OPTIONS", {}), False)


def _read(path: Path) -> _Document:
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise SettingsError(f"{path}: there is no such storage settings file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path}: the storage settings file cannot be read: {error}") from None
    try:
        values = json.loads(text) if path.suffix == ".json" else tomllib.loads(text)
    except json.JSONDecodeError as error:
        raise SettingsError(f"{path}, line {error.lineno}: not valid JSON: {error.msg}") from None
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f"{path}: not valid TOML: {error}") from None
    if not isinstance(values, dict):
        raise SettingsError(f"{path}: expected settings by name, found a {type(values).__name__}")
    return _Document(path.absolute(), text, values)


def _from_storages(document: _Document) -> dict[str, Any]:
    for key in document.values:
        if key != "STORAGES":
            raise document.error(key, "unknown setting beside STORAGES; everything belongs into STORAGES.default")
    storages = document.values["STORAGES"]
    default = storages.get("default") if isinstance(storages, dict) else None
    if not isinstance(default, dict):
        raise document.error("STORAGES", 'needs an entry "default"')
    for key in default:
        if key not in ("BACKEND", "OPTIONS"):
            raise document.error(key, "unknown setting in STORAGES.default; it has BACKEND and OPTIONS")
    backend, options = default.get("BACKEND"), default.get("OPTIONS", {})
    if not isinstance(backend, str):
        raise document.error("default", "needs BACKEND, the dotted path of a Django storage class")
    if not isinstance(options, dict):
        raise document.error("OPTIONS", "needs settings by name")
    return {"BACKEND": backend, "OPTIONS": dict(options)}


def _from_older_names(document: _Document) -> dict[str, Any]:
    values = dict(document.values)
    dotted = values.pop("DEFAULT_FILE_STORAGE", None) or (FOLDER.dotted if "MEDIA_ROOT" in values else None)
    if not isinstance(dotted, str):
        for name in values:
            if not any(_option_of(known, name) for known in BACKENDS):
                raise document.error(name, "unknown setting")
        remedy = "has neither STORAGES nor DEFAULT_FILE_STORAGE nor MEDIA_ROOT, so no storage is named"
        raise SettingsError(f"{document.path}: {remedy}")
    backend = backend_named(dotted)
    if backend is None:
        raise document.error(
            "DEFAULT_FILE_STORAGE", f"{dotted} is not known by its older settings; use STORAGES instead"
        )
    options = {}
    for name, value in values.items():
        option = _option_of(backend, name)
        if option is None and name not in FOLDER.older:
            raise document.error(name, f"unknown setting for {backend.dotted}")
        if option is not None:
            options[option] = value
    return {"BACKEND": dotted, "OPTIONS": options}


def _option_of(backend: Backend, name: str) -> str | None:
    if name in backend.older:
        return backend.older[name]
    for prefix in (f"{backend.older_prefix}S3_", f"{backend.older_prefix}STORAGE_", backend.older_prefix):
        option = name.removeprefix(prefix).lower()
        if name.startswith(prefix) and option in backend.options:
            return option
    return None


def _check_options(document: _Document, backend: Backend, options: Mapping[str, Any]) -> None:
    for option in options:
        if option not in backend.options:
            raise document.error(
                option, f"unknown option of {backend.dotted}; it has {', '.join(sorted(backend.options))}"
            )
