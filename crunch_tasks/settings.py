"""What a client needs to know before it can do anything: the server, the token, the storage, the local folder.

Each comes from the command line or from the environment (`CRUNCH_*`); the token never from a Prefect parameter.
"""

from __future__ import annotations

import datetime as dt
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from pydantic import BaseModel, ByteSize, ConfigDict, Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from crunch_tasks.contract import WorkflowType
from crunch_tasks.errors import SettingsError
from crunch_tasks.machine import available_cores
from crunch_tasks.needs import Resources, parse
from crunch_tasks.storage_settings import load_storage_settings
from crunch_tasks.until import end, end_of_job

OPTION_OF = {
    "url": "--url",
    "token": "--token",
    "storage_settings": "--storage-settings",
    "directory": "--directory",
    "labels": "--labels",
    "until": "--until",
}


class ClientSettings(BaseSettings):
    """A client's settings; `CRUNCH_` and the field's name in capitals is the variable of each."""

    model_config = SettingsConfigDict(env_prefix="CRUNCH_", env_ignore_empty=True, frozen=True, extra="ignore")

    url: str = Field(default="", description="The server's address, such as https://crunch.example.org")
    token: SecretStr = Field(default=SecretStr(""), description="Your access token on the server")
    storage_settings: Path | None = Field(
        default=None, description="The TOML or JSON file that says where the files are; the server's own"
    )
    directory: Path = Field(default=Path("tmp"), description="The local folder for workspaces")
    server_patience_s: float = Field(
        default=300, ge=0, le=86_400, description="How long to go on asking a server that does not answer, in seconds"
    )
    low_water: ByteSize = Field(
        default=ByteSize(200_000_000), description="How much of the directory's disk stays free, such as 2 GB"
    )

    labels: str = Field(
        default="", description="Words for what this machine has, such as 'avx512 fast', for datasets that ask for it"
    )

    until: str = Field(
        default="", description="When to end, as +2h, 18:30 or ISO 8601: only what is expected to be done then is begun"
    )

    @field_validator("until")
    @classmethod
    def _time(cls, until: str) -> str:
        # What counts from now on is a time from here on.
        return end(until, dt.datetime.now().astimezone()).isoformat() if until else ""

    def seconds_left(self) -> float | None:
        """The seconds until `until`, or until the batch system ends this job; None when there is no end."""
        stop = dt.datetime.fromisoformat(self.until) if self.until else end_of_job(os.environ)
        return None if stop is None else max(0.0, (stop - dt.datetime.now(dt.UTC)).total_seconds())

    @field_validator("labels")
    @classmethod
    def _words(cls, labels: str) -> str:
        found = parse(labels)
        if found != Resources(labels=found.labels):
            raise ValueError("labels are words; cores, memory and GPUs are found by looking")
        return " ".join(sorted(found.labels))

    @field_validator("url")
    @classmethod
    def _web_address(cls, url: str) -> str:
        if url and (urlsplit(url).scheme not in ("http", "https") or not urlsplit(url).hostname):
            raise ValueError(f"{url!r} is not a web address; it should look like https://crunch.example.org")
        return url.rstrip("/")

    @field_validator("directory")
    @classmethod
    def _absolute(cls, directory: Path) -> Path:
        return directory.expanduser().absolute()

    def require(self, *names: str) -> None:
        """Raises SettingsError naming the option and the variable of the first of `names` that has no value."""
        for name in names:
            value = getattr(self, name)
            if value is None or value == "" or (isinstance(value, SecretStr) and not value.get_secret_value()):
                raise SettingsError(missing(name))

    def storage_config(self) -> dict[str, Any]:
        """The storage of the settings file, as Django's `STORAGES["default"]` would have it."""
        self.require("storage_settings")
        return load_storage_settings(self.storage_settings or "")


def missing(name: str) -> str:
    """The sentence for a setting without a value."""
    return f"No {name.replace('_', ' ')} given: use {OPTION_OF[name]} or set CRUNCH_{name.upper()}."


def client_settings(**given: Any) -> ClientSettings:
    """Settings from `given` (None: not given), then the environment. A SettingsError names option and variable."""
    try:
        return ClientSettings(**{name: value for name, value in given.items() if value is not None})
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        name = str(first["loc"][0])
        option = f"{OPTION_OF[name]} or " if name in OPTION_OF else ""
        raise SettingsError(f"{option}CRUNCH_{name.upper()}: {sentence(first)}") from None


def sentence(problem: Mapping[str, Any]) -> str:
    """What is wrong with a value, in words for people; `problem` is one of a ValidationError's `errors()`."""
    if problem["type"].startswith("byte_size"):
        return "write a size such as 200G or 500MB."
    return str(problem["msg"]).removeprefix("Value error, ")


class RunOptions(BaseModel):
    """How to run a dataset: the options of `crunch run|next|loop` and the parameter `options` of the deployments.

    Nothing in it is secret and nothing in it says where the token is sent, since anyone who may start a deployment
    can set it: server, token and storage come from the environment of whoever runs the flow.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    cores: int | None = Field(
        default=None, ge=1, description="Processors for each workflow; by default all, parted among a loop's workers"
    )
    workflow: WorkflowType | None = Field(default=None, description="The workflow's type, if not the project's own")
    path: Path | None = Field(
        default=None, description="Run this script or Snakefile, where it is, instead of the project's workflow"
    )
    download: bool = Field(default=True, description="Fetch the dataset's files, or take the workspace as it is")
    upload: bool = Field(default=True, description="Send results to the storage, or release the dataset unprocessed")
    cleanup: bool = Field(default=False, description="After the run, delete here what is safe in the storage")
    allow_empty: bool = Field(default=False, description="Run a dataset that has no files")

    @property
    def processors(self) -> int:
        """How many a workflow gets."""
        return self.cores or available_cores()

    def parted(self, workers: int) -> RunOptions:
        """The same options for each of so many that run at once: together they take what one alone would."""
        return self.model_copy(update={"cores": self.cores or max(1, available_cores() // workers)})

    @field_validator("path")
    @classmethod
    def _file(cls, path: Path | None) -> Path | None:
        if path is not None and not path.expanduser().is_file():
            raise ValueError(f"there is no file {path}")
        return path and path.expanduser().absolute()


MOST_AT_ONCE = 1000
"""More is a slip of the finger: each dataset in hand has a thread and connections of its own."""


class LoopOptions(BaseModel):
    """How a loop goes about many datasets: options of `crunch loop`, the parameter `lanes` of the deployment."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    workers: int = Field(default=1, ge=1, le=MOST_AT_ONCE, description="How many datasets compute at once")
    prefetch: int = Field(
        default=1,
        ge=0,
        le=MOST_AT_ONCE,
        description="How many more are fetched meanwhile; with 0 each worker takes one after the other",
    )
    max_disk: ByteSize | None = Field(
        default=None,
        description="The most that --directory may take, such as 200G: wait rather than fetch more; needs --cleanup",
    )
    wait: bool = Field(default=False, description="Go on while others still work, for what they may give back")
