"""Hosts that share nothing but a wire: network namespaces on a bridge, made and taken away with iproute2, as root."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from crunch_tasks.errors import UsageError
from deployments.local import bare_environment
from tests.support.site import until

BRIDGE = "crunch-hub"
SUBNET = "10.77.31"
NAMED = 'echo "$0" > /proc/sys/kernel/hostname; exec "$@"'
HUB = f"{SUBNET}.1"
"""The address of this machine itself, where the servers are, for the hosts."""


@dataclass
class Host:
    """A machine with a name, an address and a home folder of its own. It reaches the hub and the other hosts only."""

    number: int
    folder: Path

    @property
    def name(self) -> str:
        return f"host{self.number}"

    @property
    def _space(self) -> str:
        return f"crunch-{self.name}"

    @property
    def _wire(self) -> str:
        return f"crunch-{self.number}"

    @property
    def home(self) -> Path:
        return self.folder / self.name

    @property
    def work(self) -> Path:
        return self.home / "work"

    def plug_in(self) -> None:
        self.home.mkdir(parents=True)
        ip("netns", "add", self._space)
        ip("link", "add", self._wire, "type", "veth", "peer", "name", "eth0", "netns", self._space)
        ip("link", "set", self._wire, "master", BRIDGE, "up")
        ip("-n", self._space, "address", "add", f"{SUBNET}.{10 + self.number}/24", "dev", "eth0")
        for device in ("eth0", "lo"):
            ip("-n", self._space, "link", "set", device, "up")

    def start(self, words: Sequence[str], environment: Mapping[str, str]) -> None:
        """Start a command there, in the host's home; its output goes to a log beside that."""
        with self.home.with_suffix(".log").open("ab") as log:
            subprocess.Popen(
                # The host's name is in each status that its clients send.
                ["ip", "netns", "exec", self._space, "unshare", "--uts", "sh", "-c", NAMED, self.name, *words],
                env=bare_environment() | {"HOME": str(self.home), **environment},
                cwd=self.home,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def commands(self) -> dict[int, str]:
        """The process ids and command lines of all that runs there now."""
        found = {}
        for pid in map(int, ip("netns", "pids", self._space).split()):
            with suppress(psutil.NoSuchProcess):
                found[pid] = " ".join(psutil.Process(pid).cmdline())
        return found

    def cut_off(self) -> None:
        """Pull the cable: what is sent is lost without a word."""
        ip("link", "set", self._wire, "down")

    def rejoin(self) -> None:
        ip("link", "set", self._wire, "up")

    def kill(self) -> None:
        """SIGKILL for all that run there, as when the power fails."""

        def is_dead() -> bool:
            alive = self.commands()
            for pid in alive:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            return not alive

        until(is_dead, what=f"the end of {self.name}")

    def unplug(self) -> None:
        self.kill()
        # The namespace lets go of its end some time after it is gone.
        ip("link", "delete", self._wire)
        ip("netns", "delete", self._space)


def check_rights() -> None:
    """Raises UsageError where no network namespaces can be made."""
    if os.geteuid() != 0 or not shutil.which("ip") or not shutil.which("unshare"):
        raise UsageError(
            "Hosts are network namespaces, which need root, `ip` and `unshare` (Debian's iproute2 and util-linux)."
        )
    if BRIDGE in ip("-brief", "link", "show", "type", "bridge"):
        raise UsageError(
            f"The bridge {BRIDGE} is there already: another `make hosts` runs, or one was killed. Then remove it with "
            f"`ip link delete {BRIDGE}`, and what `ip netns` lists as crunch-host1 and so on with `ip netns delete`."
        )


@contextmanager
def network(folder: Path, count: int) -> Iterator[list[Host]]:
    """So many hosts with their homes below `folder`, and a bridge between them and this machine, which is HUB there."""
    ip("link", "add", BRIDGE, "type", "bridge")
    hosts = [Host(number, folder) for number in range(1, count + 1)]
    plugged: list[Host] = []
    try:
        ip("address", "add", f"{HUB}/24", "dev", BRIDGE)
        ip("link", "set", BRIDGE, "up")
        for host in hosts:
            plugged.append(host)
            host.plug_in()
        yield hosts
    finally:
        for host in plugged:
            host.unplug()
        ip("link", "delete", BRIDGE)


def ip(*words: str) -> str:
    """What `ip WORDS` prints. Raises UsageError with its last words."""
    done = subprocess.run(["ip", *words], capture_output=True, text=True, check=False)
    if done.returncode:
        raise UsageError(f"`ip {' '.join(words)}` failed: {done.stderr.strip()}")
    return done.stdout
