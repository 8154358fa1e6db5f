"""A site to measure loops in: Prefect's server, a Crunch server, a folder and an S3 server, and a slow line to that."""

from __future__ import annotations

import contextlib
import os
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from deployments.local import free_port, prefect_server
from tests.support.relay import relay
from tests.support.seaweed import SeaweedS3, seaweed
from tests.support.servers import CrunchServer, crunch_server, postgres
from tests.support.site import Site

DIRECT = "direct.toml"
"""The storage's settings file that does without the slow line."""

COMPUTE = """#!/bin/bash
# Computes for {seconds} s and makes {size} bytes; notes when, for who measures.
date +%s.%N >> "{folder}/begun"
while [ "$(wc -l < "{folder}/begun")" -lt {meet} ]; do sleep 0.02; done
sleep {seconds}
[ {size} = 0 ] || head -c {size} /dev/urandom > result.bin
date +%s.%N >> "{folder}/ended"
"""


@dataclass(frozen=True)
class Work:
    """Datasets that are alike: bytes that each is fetched with and makes, and seconds that it computes.

    Each workflow waits until `meet` have begun, so that all clients are at work when the time begins to count.
    """

    count: int
    size: int = 0
    seconds: float = 0
    meet: int = 1


@dataclass(frozen=True)
class Took:
    """What some clients took for some work, in seconds: the commands as wholes, and when each workflow ran."""

    wall: float
    begun: list[float]
    ended: list[float]

    @property
    def idle(self) -> float:
        """The part of the time, from the first workflow's begin to the last one's end, in which none ran."""
        computing = sum(self.ended) - sum(self.begun)
        return 1 - computing / (self.ended[-1] - self.begun[0])


class Place:
    """Where loops are measured: `work_of` makes datasets, `loop` processes them."""

    def __init__(self, folder: Path, server: CrunchServer, prefect_api: str, s3: SeaweedS3) -> None:
        self.folder = folder
        self.server = server
        self.prefect_api = prefect_api
        self.s3 = s3
        self._made = 0

    def in_folder(self) -> Site:
        """A site on a folder."""
        place = self._new()
        (place / "storage").mkdir()
        toml = f'MEDIA_ROOT = "{place / "storage"}"\n'
        return self._site(place, toml, toml)

    @contextlib.contextmanager
    def in_s3(self, rate: float = 0) -> Iterator[Site]:
        """A site on the S3 server, over a line of `rate` bytes a second each way (0: as it is)."""
        place = self._new()
        bucket = self.s3.make_bucket(place.name)
        with relay(self.s3.ports[0], rate) as line:
            toml = self.s3.toml(bucket)
            yield self._site(place, toml, toml.replace(self.s3.endpoint, line.url) if rate else toml)

    def loop(self, site: Site, work: Work, clients: int = 1, options: tuple[str, ...] = ()) -> Took:
        """Add the work to the site and let so many `crunch loop`s do it. Raises RuntimeError when not all of it was."""
        notes = site.directory.parent / f"notes-{self._made}"
        self._made += 1
        notes.mkdir()
        script = COMPUTE.format(seconds=work.seconds, size=work.size, folder=notes, meet=work.meet)
        project = site.add_project(f"work {self._made}", script)
        # Not over the slow line.
        direct = replace(site, storage_settings=site.storage_settings.with_name(DIRECT))
        for number in range(work.count):
            direct.add_dataset(project, f"d{number}", {"input.bin": os.urandom(work.size or 10)})
        began = time.time()
        words = ("loop", "--project", project, "--cleanup", *options)
        commands = [site.start(*words, CRUNCH_DIRECTORY=str(notes / f"client-{n}")) for n in range(clients)]
        said = [command.communicate()[1] for command in commands]
        if any(command.returncode for command in commands):
            raise RuntimeError("\n".join(said))
        wall = time.time() - began
        begun, ended = ([float(line) for line in (notes / name).read_text().split()] for name in ("begun", "ended"))
        if len(ended) != work.count:
            raise RuntimeError(f"{len(ended)} of {work.count} were computed:\n" + "\n".join(said))
        return Took(wall, begun, ended)

    def _new(self) -> Path:
        self._made += 1
        place = self.folder / f"place-{self._made}"
        place.mkdir()
        return place

    def _site(self, place: Path, direct: str, toml: str) -> Site:
        (place / DIRECT).write_text(direct)
        (place / "storage.toml").write_text(toml)
        home = {"PREFECT_HOME": str(place / "prefect")}
        return Site(self.server, place / "storage.toml", place / "work", self.prefect_api, home)


@contextlib.contextmanager
def running_place() -> Iterator[Place]:
    """Its servers run until the context ends, Prefect's and Crunch's on one PostgreSQL."""
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        cluster = stack.enter_context(postgres())
        port = free_port()
        stack.enter_context(prefect_server(folder / "prefect", port, database=cluster.new_database())).wait()
        s3 = stack.enter_context(seaweed(folder))
        url = cluster.new_database()
        server = stack.enter_context(crunch_server(folder / "server", database_url=url, users=("alice",)))
        yield Place(folder, server, f"http://127.0.0.1:{port}/api", s3)
