"""Which mount a path is on, by tables as the kernel writes them, and what its locks are worth."""

from __future__ import annotations

from pathlib import Path

import pytest

from crunch_tasks.files.mounts import mount_at, mount_of

TABLE = r"""
22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw,errors=remount-ro
30 22 0:40 / /home rw,relatime shared:2 master:1 - autofs systemd-1 rw,fd=5
31 30 0:41 / /home rw,nosuid - nfs4 nas:/home rw,vers=4.2,hard,proto=tcp,local_lock=none,addr=10.0.0.1
32 30 0:42 / /home/old\040data rw - nfs nas:/old rw,vers=3,nolock,proto=tcp,local_lock=all
33 22 0:43 / /flocky rw - nfs nas:/f rw,vers=3,local_lock=flock
34 22 0:44 / /posixy rw - nfs nas:/p rw,vers=3,local_lock=posix
35 22 0:45 / /scratch rw,flock - lustre mds@tcp:/scratch rw,flock,lazystatfs
36 22 0:46 / /fast rw - lustre mds@tcp:/fast rw,localflock
37 22 0:47 / /plain rw - lustre mds@tcp:/plain rw,lazystatfs
38 22 0:48 /sub /mnt rw - fuse.sshfs me@there: rw,user_id=0
39 22 0:49 / /tmp rw - tmpfs tmpfs rw
a line that is none
"""

MOUNTS = {
    "/var/x": ("/", "ext4", False, ""),
    "/homestead": ("/", "ext4", False, ""),
    "/home": ("/home", "nfs4", True, ""),
    "/home/alice/tmp": ("/home", "nfs4", True, ""),
    "/home/old data/x": ("/home/old data", "nfs", True, "local_lock=all"),
    "/flocky/x": ("/flocky", "nfs", True, "local_lock=flock"),
    "/posixy": ("/posixy", "nfs", True, ""),
    "/scratch/alice": ("/scratch", "lustre", True, ""),
    "/fast/alice": ("/fast", "lustre", True, "localflock"),
    "/plain/alice": ("/plain", "lustre", True, ""),
    "/mnt/x": ("/mnt", "fuse.sshfs", True, ""),
    "/tmp": ("/tmp", "tmpfs", False, ""),
}


@pytest.mark.parametrize("path", MOUNTS)
def test_a_paths_mount_and_its_locks(path: str) -> None:
    mount = mount_of(TABLE, path)
    assert mount is not None
    assert (mount.point, mount.type, mount.is_network, mount.local_locks) == MOUNTS[path]


def test_without_a_table_nothing_is_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert mount_of("", "/x") is None
    monkeypatch.setattr("crunch_tasks.files.mounts.MOUNT_TABLE", tmp_path / "none")
    assert mount_at(tmp_path) is None


def test_a_folder_that_is_still_to_be_made_has_the_mount_above_it(tmp_path: Path) -> None:
    mount = mount_at(tmp_path / "not" / "there")
    assert mount is not None and mount == mount_at(tmp_path)
