"""Chaos: everything is killed, stopped and cut at random while four clients work, and in the end all must be right.

    python -m tests.crash.chaos [--seed N] [--seconds N]

One Crunch server, one S3 server, one Prefect server, four clients in two directories, sixty datasets. What happens and
in which order is drawn from the seed, which is printed; how far each process is by then is up to the machine.
"""

from __future__ import annotations

import argparse
import random
import signal
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psutil

from deployments.local import free_port, prefect_server
from tests.crash import aftermath
from tests.crash.population import DATASETS, add_datasets
from tests.crash.processes import MARK, kill_all, ours, send
from tests.support.depth import SEED
from tests.support.relay import Relay, relay
from tests.support.seaweed import seaweed
from tests.support.servers import CrunchServer, postgres
from tests.support.site import CRUNCH, Site

KILLED = "SIGKILL"
"""In the note of a workflow that was killed, or whose command was."""

CLIENTS = 4
BUCKET = "chaos"
QUIET_S = 300
"""How long the clients may take to finish once they are left alone, in seconds."""


class Chaos:
    """The servers, the clients, and what can happen to them; use as a context."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.folder = folder
        self.random = random.Random(seed)
        self.happened: Counter[str] = Counter()
        self.clients: list[subprocess.Popen[bytes]] = []
        self.standing: list[tuple[float, list[psutil.Process]]] = []
        self._stack = ExitStack()

    def __enter__(self) -> Chaos:
        with ExitStack() as stack:
            folder = self.folder
            self.prefect_port = free_port()
            # On SQLite it stalls when several clients write at once.
            database = stack.enter_context(postgres()).new_database()
            self.prefect = prefect_server(folder / "prefect", self.prefect_port, database=database)
            stack.enter_context(self.prefect)
            self.s3 = stack.enter_context(seaweed(folder / "s3"))
            self.to_s3: Relay = stack.enter_context(relay(urlsplit(self.s3.endpoint).port or 0))
            (folder / "server").mkdir()
            self.server = CrunchServer(folder / "server", storage_settings=self._settings("direct", self.s3.endpoint))
            self.server.manage("migrate", "--verbosity", "0")
            self.server.add_users("alice")
            self.server.start()
            stack.callback(self.server.stop)
            self.to_server: Relay = stack.enter_context(relay(self.server.port))
            self.prefect.wait()
            stack.callback(self._end_clients)
            self._stack = stack.pop_all()
        api = f"http://127.0.0.1:{self.prefect_port}/api"
        self.site = Site(self.server, self.server.storage_settings or folder, folder / "work", api)
        locks = folder / "locks"
        locks.mkdir()
        self.violations = locks / "violations"
        add_datasets(self.site, locks)
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _settings(self, name: str, endpoint: str) -> Path:
        path = self.folder / f"{name}.toml"
        text = self.s3.toml(self.s3.make_bucket(BUCKET), location="files")
        path.write_text(text.replace(self.s3.endpoint, endpoint))
        return path

    # --- the clients -------------------------------------------------------------------------------------------------

    def start_client(self, number: int) -> subprocess.Popen[bytes]:
        environment = {
            **self.site.env,
            MARK: str(self.folder),
            "CRUNCH_URL": self.to_server.url,
            "CRUNCH_STORAGE_SETTINGS": str(self._settings("relayed", self.to_s3.url)),
            "CRUNCH_DIRECTORY": str(self.directory(number)),
            "PREFECT_HOME": str(self.folder / "home"),
        }
        with (self.folder / f"client-{number}.log").open("ab") as log:
            return subprocess.Popen(
                [CRUNCH, "loop", "--cores", "1"],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def directory(self, number: int) -> Path:
        """Two clients share each."""
        return self.folder / "work" / f"machine-{number % 2}"

    def keep_clients(self) -> None:
        """Start again who is gone."""
        if not self.clients:
            self.clients = [self.start_client(number) for number in range(CLIENTS)]
        for number, client in enumerate(self.clients):
            if client.poll() is not None:
                self.clients[number] = self.start_client(number)

    def _end_clients(self) -> None:
        for process in ours(self.folder):
            with suppress(psutil.Error):
                process.kill()

    def some_client(self) -> list[psutil.Process]:
        """A client with all that it started, itself first; empty when it is gone."""
        try:
            client = psutil.Process(self.random.choice(self.clients).pid)
            return [client, *client.children(recursive=True)]
        except psutil.Error:
            return []

    # --- what can happen ---------------------------------------------------------------------------------------------

    def kill_client(self) -> None:
        send(self.some_client()[:1], signal.SIGKILL)

    def kill_tree(self) -> None:
        send(self.some_client(), signal.SIGKILL)

    def kill_child(self) -> None:
        """A supervisor, a shell, Snakemake or one of its jobs."""
        children = self.some_client()[1:]
        send([self.random.choice(children)] if children else [], signal.SIGKILL)

    def tell_client(self) -> None:
        send(self.some_client()[:1], signal.SIGTERM)

    def stop_client(self) -> None:
        """With all that it started, as a batch system that suspends; for shorter or longer than its lease."""
        tree = self.some_client()
        send(tree, signal.SIGSTOP)
        self.standing.append((time.monotonic() + self.random.uniform(1, 12), tree))

    def continue_clients(self, *, at_once: bool = False) -> None:
        now = time.monotonic()
        for until, tree in list(self.standing):
            if at_once or until <= now:
                send(tree, signal.SIGCONT)
                self.standing.remove((until, tree))

    def restart_server(self) -> None:
        self.server.kill()
        time.sleep(self.random.uniform(0, 3))
        self.server.start()

    def cut_server(self) -> None:
        self.to_server.cut()

    def restart_s3(self) -> None:
        self.s3.stop()
        time.sleep(self.random.uniform(0, 2))
        self.s3.start()

    def cut_s3(self) -> None:
        self.to_s3.cut()

    def restart_prefect(self) -> None:
        kill_all(self.prefect)
        self.prefect.__enter__()

    def things(self) -> dict[Callable[[], None], int]:
        """All that can happen, and how often beside one another."""
        return {
            self.kill_client: 4,
            self.kill_tree: 3,
            self.kill_child: 2,
            self.tell_client: 3,
            self.stop_client: 4,
            self.restart_server: 2,
            self.cut_server: 3,
            self.restart_s3: 1,
            self.cut_s3: 3,
            self.restart_prefect: 1,
        }

    def not_yet(self) -> list[Callable[[], None]]:
        """What has not happened yet."""
        return [thing for thing in self.things() if not self.happened[thing.__name__]]

    def one_thing(self) -> None:
        """Each once, in some order; then at random."""
        weights = self.things()
        (thing,) = self.random.choices(list(weights), list(weights.values()))
        if not_yet := self.not_yet():
            thing = self.random.choice(not_yet)
        self.happened[thing.__name__] += 1
        thing()

    # --- the whole ---------------------------------------------------------------------------------------------------

    def rage(self, seconds: float) -> None:
        """For so long, and until each thing has happened, one after another; then everybody may finish."""
        end = time.monotonic() + seconds
        while (time.monotonic() < end or self.not_yet()) and self.states()["completed"] < DATASETS:
            self.keep_clients()
            self.continue_clients()
            time.sleep(self.random.uniform(0.3, 2.0))
            self.one_thing()
        self.continue_clients(at_once=True)
        end = time.monotonic() + QUIET_S
        while self.states()["completed"] < DATASETS and time.monotonic() < end:
            self.retry_killed()
            self.keep_clients()
            time.sleep(0.5)
        for client in self.clients:
            client.wait(60)

    def retry_killed(self) -> None:
        """A workflow that somebody kills has failed, and a person says that it is to be tried again."""
        for dataset in self._datasets():
            if dataset["state"] == "failed" and KILLED in self.site.notes(dataset["slug"])[-1]:
                self.happened["retry"] += 1
                self.site.crunch("retry", dataset["slug"])

    def states(self) -> Counter[str]:
        return Counter(row["state"] for row in self._datasets())

    def _datasets(self) -> list[dict[str, Any]]:
        return [dict(row) for row in self.site.client.pages("api/datasets/")]

    def problems(self) -> list[str]:
        """All that is not as it must be."""
        return [
            *aftermath.of_storage(self.s3, BUCKET),
            *(f"{slug}: two worked on it at once" for slug in self._violations()),
            *(told for machine in self._machines() for told in aftermath.of_directory(self.site, machine)),
            *(f"left over: {process}" for process in ours(self.folder)),
            *(told for dataset in self._datasets() for told in aftermath.of_dataset(self.site, dataset)),
        ]

    def _violations(self) -> list[str]:
        """Slugs of datasets on which a workflow worked while another one did."""
        return self.violations.read_text().splitlines() if self.violations.exists() else []

    def _machines(self) -> list[Path]:
        return sorted((self.folder / "work").iterdir())


def main() -> None:
    parser = argparse.ArgumentParser(
        description="Kill, stop and cut everything at random; in the end all must be right."
    )
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--seconds", type=float, default=240, help="how long, before everybody may finish")
    given = parser.parse_args()
    print(f"seed {given.seed}", flush=True)
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="crunch-chaos-") as folder, Chaos(Path(folder), given.seed) as chaos:
        chaos.rage(given.seconds)
        problems = chaos.problems()
    print(*(f"{count:4} {name}" for name, count in sorted(chaos.happened.items())), sep="\n")
    print(*problems, sep="\n")
    print(f"{DATASETS} datasets, {len(problems)} problems, {time.monotonic() - began:.0f} s, seed {given.seed}")
    raise SystemExit(bool(problems))


if __name__ == "__main__":
    main()
