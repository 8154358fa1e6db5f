"""What the machine has for this process: a batch system or a container may leave it less than there is."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path

import psutil

from crunch_tasks.needs import Resources

NO_GPU = ("", "-1", "none", "void", "nodevfiles")
"""What CUDA_VISIBLE_DEVICES says where there is none."""


def resources(cores: int, share: int, labels: frozenset[str], environment: Mapping[str, str] = os.environ) -> Resources:
    """What a client here has for each of the `share` workflows that it runs at once, to which it gives `cores` each."""
    return Resources(cores, available_memory(environment) // share, available_gpus(environment) // share, labels)


def available_cores() -> int:
    """The processors that this process may use: at least one, and no part of one."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quotas = (text.split() for text in _limits("cpu.max"))
    quota = min((int(used) // int(period) for used, period in quotas if used != "max"), default=allowed)
    return max(1, min(allowed, quota))


def available_memory(environment: Mapping[str, str] = os.environ) -> int:
    """The memory that this process and its children may use, in bytes."""
    limits = [int(text) for text in _limits("memory.max") if text != "max"]
    # In MiB; 0 is the whole node.
    if (told := environment.get("SLURM_MEM_PER_NODE", "")).isdecimal() and int(told):
        limits.append(int(told) * 2**20)
    return min([psutil.virtual_memory().total, *limits])


def available_gpus(environment: Mapping[str, str] = os.environ, devices: Path = Path("/dev")) -> int:
    """The GPUs that this process may use: as CUDA or Slurm say, else NVIDIA's devices."""
    if (told := environment.get("CUDA_VISIBLE_DEVICES")) is not None:
        return 0 if told.strip().lower() in NO_GPU else len([name for name in told.split(",") if name.strip()])
    if (told := environment.get("SLURM_GPUS_ON_NODE", "")).isdecimal():
        return int(told)
    return len(list(devices.glob("nvidia[0-9]*")))


def _limits(name: str) -> Iterator[str]:
    """What the control groups of this process, version 2, say in the files of this name."""
    root = Path("/sys/fs/cgroup")
    try:
        lines = Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:
        return
    place = next((line.removeprefix("0::/") for line in lines if line.startswith("0::/")), "")
    for folder in (root / place, *(root / place).parents):
        if not folder.is_relative_to(root):
            return
        try:
            yield (folder / name).read_text().strip()
        except OSError:
            continue
