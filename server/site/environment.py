"""The server's settings as the environment gives them, each checked, each with a safe default."""

from __future__ import annotations

import os
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import dj_database_url
from django.core.exceptions import ImproperlyConfigured

from crunch_tasks.errors import SettingsError
from crunch_tasks.storage_settings import load_storage_settings

YES = {"1", "true", "yes", "on"}
NO = {"", "0", "false", "no", "off"}
LOOPBACK_HOSTS = ["localhost", "127.0.0.1", "[::1]"]
SQLITE_BUSY_S = 30

SQLITE_OPTIONS: Mapping[str, Any] = {
    # A transaction that reads first and then writes would be refused at once ("database is locked") instead of waiting.
    "transaction_mode": "IMMEDIATE",
    "timeout": SQLITE_BUSY_S,
    # FULL: a status that was answered for is on the disk, whatever happens to the machine; its client forgets it.
    "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL;",
}

POOL: Mapping[str, Any] = {"min_size": 1, "max_size": 24, "timeout": 5.0}
"""Connections that a process keeps open to PostgreSQL, since to open one takes longer than to claim a dataset. As many
as it works on requests at once, with some for webhooks; four such processes fit into PostgreSQL's usual hundred.
After `timeout` seconds without a connection there is an error."""

ALIVE: Mapping[str, Any] = {
    "connect_timeout": 5,
    "tcp_user_timeout": 20_000,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 2,
}
"""After 20 seconds a database whose machine is gone without a word is an error too, in libpq's units."""


class WrongSetting(SettingsError, ImproperlyConfigured):
    """A setting of the server is wrong."""


def boolean(name: str) -> bool:
    word = os.environ.get(name, "").strip().lower()
    if word in YES:
        return True
    if word in NO:
        return False
    raise WrongSetting(f"{name}={os.environ[name]!r} is neither true nor false. Set it to 1 or 0, or unset it.")


def log_format() -> str:
    """CRUNCH_LOG_FORMAT: "text" or "json"."""
    form = os.environ.get("CRUNCH_LOG_FORMAT") or "text"
    if form not in ("text", "json"):
        raise WrongSetting(f"CRUNCH_LOG_FORMAT={form!r} is neither text nor json. Set it to one of them, or unset it.")
    return form


def words(name: str, default: list[str]) -> list[str]:
    """A comma-separated list."""
    found = [word.strip() for word in os.environ.get(name, "").split(",")]
    return [word for word in found if word] or default


def origins(name: str) -> list[str]:
    """Comma-separated origins such as https://crunch.example.org."""
    found = words(name, [])
    for origin in found:
        parts = urlsplit(origin)
        if parts.scheme not in ("http", "https") or not parts.netloc or parts.path not in ("", "/"):
            raise WrongSetting(f"{name}: {origin!r} is not an origin. Write it like https://crunch.example.org.")
    return [origin.rstrip("/") for origin in found]


def data_folder() -> Path:
    """Where the server keeps its secret key, and by default its database and files."""
    return Path(os.environ.get("CRUNCH_DATA") or Path.cwd() / "crunch-data").absolute()


def media_folder() -> Path:
    """The storage of a server that was not given another."""
    return data_folder() / "media"


def prepare_data_folder() -> None:
    """Make the folders that the server writes to. Raises SettingsError when that cannot be."""
    # The database in it holds people's tokens: for the server's own user only.
    _make("CRUNCH_DATA", data_folder(), 0o700)
    if not os.environ.get("CRUNCH_STORAGE_SETTINGS"):
        _make("CRUNCH_DATA", media_folder())
    # prometheus-client's own variable, which it reads while the server is imported.
    if metrics := os.environ.get("PROMETHEUS_MULTIPROC_DIR"):
        _make("PROMETHEUS_MULTIPROC_DIR", Path(metrics))


def _make(setting: str, folder: Path, mode: int = 0o777) -> None:
    try:
        folder.mkdir(mode, parents=True, exist_ok=True)
    except OSError as error:
        raise WrongSetting(f"{setting}: cannot make the folder {folder}: {error.strerror}.") from error


def secret_key() -> str:
    """CRUNCH_SECRET_KEY, or one that is made once and kept in the data folder, readable by its owner only."""
    if key := os.environ.get("CRUNCH_SECRET_KEY"):
        return key
    prepare_data_folder()
    path = data_folder() / "secret-key"
    draft = path.with_name(f"{path.name}.{secrets.token_hex(8)}")
    try:
        if not path.exists():
            with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
                file.write(secrets.token_urlsafe(50))
            try:
                # A link, not a rename: of two servers that start at once, both use the key of the first.
                os.link(draft, path)
            except FileExistsError:
                pass
            finally:
                draft.unlink()
        key = path.read_text().strip()
    except OSError as error:
        raise WrongSetting(f"Cannot keep the secret key in {path}: {error.strerror}. Set CRUNCH_SECRET_KEY.") from error
    if not key:
        raise WrongSetting(f"The secret key in {path} is empty. Delete the file, or set CRUNCH_SECRET_KEY.")
    return key


def database() -> dict[str, Any]:
    """Django's settings of the database at CRUNCH_DATABASE_URL; by default SQLite in the data folder."""
    url = os.environ.get("CRUNCH_DATABASE_URL") or f"sqlite:///{data_folder() / 'crunch.sqlite3'}"
    try:
        parsed: dict[str, Any] = {**dj_database_url.parse(url)}
    except (ValueError, KeyError) as error:
        raise WrongSetting(
            "CRUNCH_DATABASE_URL is not the address of a database. "
            "Write it like sqlite:////path/db.sqlite3 or postgresql://user:password@host:5432/name."
        ) from error
    if parsed["ENGINE"] == "django.db.backends.sqlite3":
        parsed["OPTIONS"] = {**SQLITE_OPTIONS, **parsed.get("OPTIONS", {})}
    elif parsed["ENGINE"] == "django.db.backends.postgresql":
        parsed["OPTIONS"] = {**ALIVE, **parsed.get("OPTIONS", {}), "pool": POOL}
        parsed["CONN_HEALTH_CHECKS"] = True
    else:
        raise WrongSetting("CRUNCH_DATABASE_URL: only sqlite:// and postgresql:// are supported.")
    return parsed


def storage() -> dict[str, Any]:
    """The storage of CRUNCH_STORAGE_SETTINGS, the same file that clients read; by default a folder."""
    if path := os.environ.get("CRUNCH_STORAGE_SETTINGS"):
        return {**load_storage_settings(Path(path))}
    return {
        "BACKEND": "django.core.files.storage.FileSystemStorage",
        "OPTIONS": {"location": str(media_folder()), "allow_overwrite": True},
    }
