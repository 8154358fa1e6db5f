"""What all hosts share: a Crunch server and a Prefect server on PostgreSQL, and an S3 server, at the hub's address."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from deployments.local import free_port, prefect_server
from tests.support.seaweed import seaweed
from tests.support.servers import CrunchServer, postgres
from tests.support.site import Site

HEARTBEAT_S = 30
"""Seconds between two heartbeats of a flow run, the fewest that Prefect lets."""

ASK_S = 1
"""Seconds between two times that a worker asks Prefect for work."""


@dataclass
class Hub:
    site: Site

    @property
    def environment(self) -> Mapping[str, str]:
        """What docs/many-machines.md has an admin set for a worker."""
        told = {name: value for name, value in self.site.env.items() if name.startswith("CRUNCH_")}
        del told["CRUNCH_DIRECTORY"]
        return told | {
            "PREFECT_API_URL": self.site.prefect_api,
            "PREFECT_WORKER_QUERY_SECONDS": str(ASK_S),
            "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": str(HEARTBEAT_S),
        }


@contextmanager
def hub(folder: Path, address: str) -> Iterator[Hub]:
    """Its servers run, with a user alice, until the end."""
    with ExitStack() as stack:
        cluster = stack.enter_context(postgres())
        prefect = prefect_server(folder / "prefect", free_port(), address, cluster.new_database())
        stack.enter_context(prefect)
        (folder / "s3").mkdir()
        s3 = stack.enter_context(seaweed(folder / "s3", address))
        storage = folder / "storage.toml"
        storage.write_text(s3.toml(s3.make_bucket("crunch"), location="files"))
        (folder / "server").mkdir()
        allowed = {"CRUNCH_ALLOWED_HOSTS": f"localhost,127.0.0.1,{address}"}
        server = CrunchServer(folder / "server", cluster.new_database(), storage, allowed, host=address)
        server.manage("migrate", "--verbosity", "0")
        server.add_users("alice")
        server.start()
        stack.callback(server.stop)
        prefect.wait()
        yield Hub(Site(server, storage, folder / "work", prefect.environment["PREFECT_API_URL"]))
