"""What a client tells of its machine with each status."""

from __future__ import annotations

import getpass
import platform
import shutil
import socket
import subprocess
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import psutil

import crunch_tasks


def diagnostics(directory: Path) -> dict[str, Any]:
    """The fields of `contract.DIAGNOSTICS` for this machine; sizes in bytes, the disk is that of `directory`.

    What cannot be found out is left out.
    """
    found = dict(_unchanging())
    changing: dict[str, Callable[[], Any]] = {
        "memory_free": lambda: psutil.virtual_memory().available,
        "disk_total": lambda: shutil.disk_usage(directory).total,
        "disk_free": lambda: shutil.disk_usage(directory).free,
    }
    found.update(_each(changing))
    return found


@cache
def _unchanging() -> dict[str, Any]:
    return _each(
        {
            "agent_user": getpass.getuser,
            "version": lambda: crunch_tasks.__version__,
            "revision": _revision,
            "system": platform.system,
            "system_release": platform.release,
            "system_version": platform.version,
            "machine": platform.machine,
            "hostname": socket.gethostname,
            "ip_address": lambda: _interface()[0],
            "mac_address": lambda: _interface()[1],
            "memory_total": lambda: psutil.virtual_memory().total,
        }
    )


def _each(sources: dict[str, Callable[[], Any]]) -> dict[str, Any]:
    found = {}
    for name, source in sources.items():
        try:
            value = source()
        except Exception:  # noqa: BLE001, S112 - a machine that will not tell must not stop a status
            continue
        if value not in ("", None):
            found[name] = value
    return found


def _revision() -> str:
    """The git revision of the checkout that this runs from; empty in an installed package."""
    root = Path(crunch_tasks.__file__).parents[1]
    if not (root / ".git").exists():
        return ""
    command = ["git", "-C", str(root), "rev-parse", "HEAD"]
    return subprocess.run(command, capture_output=True, text=True, timeout=5, check=True).stdout.strip()


@cache
def _interface() -> tuple[str, str]:
    """IPv4 and hardware address of the first network interface that is up and not the loopback."""
    up = {name for name, state in psutil.net_if_stats().items() if state.isup}
    for name, addresses in psutil.net_if_addrs().items():
        ip = next((entry.address for entry in addresses if entry.family == socket.AF_INET), "")
        mac = next((entry.address for entry in addresses if entry.family == psutil.AF_LINK), "")
        if name in up and ip and not ip.startswith("127."):
            return ip, mac
    return "", ""
