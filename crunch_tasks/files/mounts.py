"""Which file system a folder is on, and whether its locks keep other machines out.

Crunch locks files with flock. On these mounts such a lock is known to one machine only, so that two clients on two
machines could work in one folder:

    NFS      nolock, local_lock=flock, local_lock=all
    Lustre   localflock

Where there are no locks at all (Lustre without `flock`), asking for one tells. On Linux only: elsewhere the kernel has
no table of mounts at this place, and nothing is known.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

MOUNT_TABLE = Path("/proc/self/mountinfo")

LOCAL_LOCKS = {
    "nfs": {"nolock", "local_lock=flock", "local_lock=all"},
    "nfs4": {"nolock", "local_lock=flock", "local_lock=all"},
    "lustre": {"localflock"},
}

NETWORK = {
    *("nfs", "nfs4", "lustre", "gpfs", "beegfs", "ceph", "cifs", "smb3", "afs"),
    *("fuse.sshfs", "fuse.glusterfs", "fuse.ceph", "fuse.s3fs", "fuse.rclone"),
}
"""File systems whose files other machines may be using too."""


@dataclass(frozen=True)
class Mount:
    """A file system in its place."""

    point: str
    type: str
    options: frozenset[str] = frozenset()

    @property
    def is_network(self) -> bool:
        return self.type in NETWORK

    @property
    def local_locks(self) -> str:
        """The option that keeps its locks on one machine, "" when none does."""
        return min(self.options & LOCAL_LOCKS.get(self.type, set()), default="")


def mount_of(table: str, path: str) -> Mount | None:
    """The mount that `path` (absolute, without links) is on; `table` is as in /proc/PID/mountinfo. None: not in it."""
    found: Mount | None = None
    for line in table.splitlines():
        before, _, after = line.partition(" - ")
        fields, rest = before.split(), after.split()
        if len(fields) < 6 or len(rest) < 3:
            continue
        point = re.sub(r"\\([0-7]{3})", lambda code: chr(int(code[1], 8)), fields[4])
        is_above = path == point or path.startswith(point.rstrip("/") + "/")
        # Of two at one place, the later one lies over the earlier.
        if is_above and (found is None or len(point) >= len(found.point)):
            found = Mount(point, rest[0], frozenset([*fields[5].split(","), *rest[2].split(",")]))
    return found


def mount_at(path: Path) -> Mount | None:
    """The mount that `path` is on, or will be when it is made; None where nothing is known."""
    try:
        table = MOUNT_TABLE.read_text("utf-8", "replace")
    except OSError:
        return None
    return mount_of(table, os.path.realpath(path))
