"""Crunch's Setup and Upload against other ways to move files to and from S3: `make bench`.

All contenders take turns in every round, on one SeaweedFS on this machine, whose CPU they share with it. Each gets
folders and prefixes of its own. Figures are medians over the rounds, ratios medians of each round's ratio to s5cmd.

It works in memory (/dev/shm) where there is enough, as a disk's own moods are larger than what is measured: ext4 makes
files several times more slowly for minutes after many were removed. `--directory` chooses another place.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from benchmarks.contenders import CONTENDERS, CRUNCH, S5CMD, S5CMD_MD5, Contender, Place
from benchmarks.measure import Measured, child
from deployments.local import free_port, prefect_server
from tests.support.seaweed import SeaweedS3, seaweed

KIB, MIB, GIB = 1024, 1024**2, 1024**3
NEEDED = 20 * GIB
"""What a run takes at most."""

MEMORY = Path("/dev/shm")


@dataclass(frozen=True)
class Load:
    """Files to move: how many, of how many bytes each."""

    name: str
    files: int
    size: int

    def make(self, folder: Path) -> Path:
        for number in range(self.files):
            # As many folders as a real dataset has.
            place = folder / f"folder-{number % (self.files // 100 + 1)}"
            place.mkdir(parents=True, exist_ok=True)
            with (place / f"file-{number}").open("wb") as file:
                for start in range(0, self.size, MIB):
                    file.write(os.urandom(min(MIB, self.size - start)))
        return folder

    def speed(self, measured: Measured) -> float:
        """Files a second of a load of small files, MB (1e6 bytes) a second of one of large files."""
        amount = self.files if self.size < MIB else self.files * self.size / 1e6
        return amount / measured.wall_s


SMALL = Load("5,000 files of 4 KiB", 5_000, 4 * KIB)
LARGE = Load("2 files of 512 MiB", 2, 512 * MIB)
FEW_TINY = Load("5,000 files of 1 KiB", 5_000, KIB)
MANY_TINY = Load("100,000 files of 1 KiB", 100_000, KIB)

Results = dict[tuple[str, str], list[Measured]]
"""By contender and way, a measurement a round."""


class Bench:
    """A server, a folder, and everything measured with them."""

    def __init__(self, server: SeaweedS3, folder: Path, environment: dict[str, str]) -> None:
        self.server = server
        self.folder = folder
        self.environment = environment
        self._places = 0

    def place(self) -> Place:
        self._places += 1
        name = f"place-{self._places}"
        return Place(self.server, self.server.make_bucket(name), "data", self.folder / name, self.environment)

    def compare(self, load: Load, contenders: tuple[Contender, ...], rounds: int) -> Results:
        source = load.make(self.folder / load.name.replace(" ", "-"))
        results: Results = defaultdict(list)
        for number in range(rounds):
            for contender in contenders:
                say(f"{load.name}, round {number + 1} of {rounds}: {contender.name}")
                place = self.place()
                results[contender.name, "up"].append(contender.up(place, source))
                results[contender.name, "down"].append(contender.down(place, place.folder / "down"))
                if load.size > MIB:
                    shutil.rmtree(place.folder)
                    self.server.remove_bucket(place.bucket)
        return results

    def unchanged(self, load: Load, rounds: int) -> tuple[float, float]:
        """Seconds of Setup and Upload of an unchanged workspace, and of one listing with one walk; medians."""
        source = load.make(self.folder / "unchanged")
        place = self.place()
        CONTENDERS[0].up(place, source)
        say(f"{load.name}, unchanged")
        ways = ("unchanged", "look")
        taken = {
            way: [
                child("benchmarks.ours", way, place.storage, place.folder / "up", environment=self.environment).wall_s
                for _ in range(rounds)
            ]
            for way in ways
        }
        return median(taken["unchanged"]), median(taken["look"])


def say(sentence: str) -> None:
    sys.stderr.write(f"{sentence}\n")


def table(load: Load, results: Results) -> str:
    """The results in Markdown."""
    unit = "files/s" if load.size < MIB else "MB/s"
    lines = [
        f"{load.name}:",
        "",
        f"| | up, {unit} | x s5cmd | down, {unit} | x s5cmd | CPU up, s | CPU down, s | peak memory up / down, MB |",
        "|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    names = dict.fromkeys(name for name, _ in results)
    for name in names:
        cells = []
        for way in ("up", "down"):
            measured = results[name, way]
            ratios = [theirs.wall_s / ours.wall_s for ours, theirs in zip(measured, results[S5CMD, way], strict=True)]
            cells += [f"{median(map(load.speed, measured)):,.0f}", f"{median(ratios):.2f}"]
        cpu = [f"{median(m.cpu_s for m in results[name, way]):.2f}" for way in ("up", "down")]
        peak = " / ".join(f"{max(m.peak_mb for m in results[name, way]):.0f}" for way in ("up", "down"))
        lines.append(f"| {name} | {' | '.join([*cells, *cpu, peak])} |")
    return "\n".join(lines)


def compared_with_md5(load: Load, results: Results) -> str:
    pairs = zip(results[S5CMD_MD5, "down"], results[CRUNCH, "down"], strict=True)
    ratio = median(theirs.wall_s / ours.wall_s for theirs, ours in pairs)
    return f"{load.name}, down: Crunch is {ratio:.2f} x s5cmd followed by md5sum."


def place_to_work(wanted: Path | None) -> Path:
    """Ends the program when there is not enough room."""
    enough = MEMORY.is_dir() and shutil.disk_usage(MEMORY).free >= NEEDED
    folder = wanted or (MEMORY / "crunch-bench" if enough else Path(".bench"))
    folder.mkdir(parents=True, exist_ok=True)
    if shutil.disk_usage(folder).free < NEEDED:
        sys.exit(f"{folder} needs {NEEDED // GIB} GiB of free room; choose another --directory")
    return folder


@contextmanager
def bench_in(folder: Path) -> Iterator[Bench]:
    """A new S3 server and a new Prefect server, gone with all their data at the end."""
    with ExitStack() as stack:
        work = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=folder))).absolute()
        (work / "s3").mkdir()
        prefect = stack.enter_context(prefect_server(work / "prefect", free_port()))
        server = stack.enter_context(seaweed(work / "s3"))
        prefect.wait()
        environment = {"PREFECT_API_URL": prefect.environment["PREFECT_API_URL"], "PREFECT_LOGGING_LEVEL": "WARNING"}
        yield Bench(server, work, environment)


def small(bench: Bench, rounds: int, contenders: tuple[Contender, ...]) -> list[str]:
    results = bench.compare(SMALL, contenders, rounds)
    return [table(SMALL, results), compared_with_md5(SMALL, results)]


def large(bench: Bench, rounds: int, contenders: tuple[Contender, ...]) -> list[str]:
    results = bench.compare(LARGE, contenders, rounds)
    return [table(LARGE, results), compared_with_md5(LARGE, results)]


def unchanged(bench: Bench, rounds: int, _contenders: tuple[Contender, ...]) -> list[str]:
    taken, look = bench.unchanged(SMALL, rounds)
    return [
        f"{SMALL.name}, unchanged: Setup and Upload {taken:.2f} s together, one listing and one walk {look:.2f} s: "
        f"{taken / look / 2:.1f} x for each stage."
    ]


def tiny(bench: Bench, rounds: int, _contenders: tuple[Contender, ...]) -> list[str]:
    alone = tuple(contender for contender in CONTENDERS if contender.name in (CRUNCH, S5CMD))
    few, many = bench.compare(FEW_TINY, alone, rounds), bench.compare(MANY_TINY, alone, 1)
    times = {
        way: many[CRUNCH, way][0].wall_s / median(measured.wall_s for measured in few[CRUNCH, way])
        for way in ("up", "down")
    }
    factor = MANY_TINY.files // FEW_TINY.files
    return [
        table(FEW_TINY, few),
        table(MANY_TINY, many),
        f"Crunch takes {times['up']:.1f} x (up) and {times['down']:.1f} x (down) as long for {factor} x the files.",
    ]


PARTS = {"small": small, "unchanged": unchanged, "tiny": tiny, "large": large}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.transfers", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3, help="how often each is measured (default: 3)")
    parser.add_argument("--only", choices=PARTS, help="one part of it")
    parser.add_argument("--fast", action="store_true", help="leave out the slow contenders, rclone and one by one")
    parser.add_argument("--directory", type=Path, help="where to work (default: in memory, else .bench)")
    options = parser.parse_args()
    folder = place_to_work(options.directory)
    contenders = tuple(c for c in CONTENDERS if not options.fast or c.name in (CRUNCH, S5CMD, S5CMD_MD5))
    for name, measure in PARTS.items():
        if options.only in (None, name):
            with bench_in(folder) as bench:
                text = "\n\n".join(measure(bench, options.rounds, contenders))
            sys.stdout.write(text + "\n\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main()
