"""A run's place on this machine: the workspace that the workflow sees, and the state folder beside it that it does not.

`DIRECTORY/PROJECT/DATASET` is the workspace, `DIRECTORY/.state/PROJECT/DATASET` the state folder with the lock, what
the workspace is bound to, hashes, partial downloads and trusted copies of what `.crunch/` holds. Whatever a workflow
does to its own folder, these stay.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import shutil
import socket
import tempfile
import time
from collections.abc import Collection, Iterator
from functools import cached_property
from io import FileIO
from pathlib import Path
from typing import Any

from crunch_tasks.contract import CRUNCH_FOLDER
from crunch_tasks.crash import Point, reached
from crunch_tasks.durable import STATE_FOLDER, make_folder, remove_torn, write_durably
from crunch_tasks.errors import WorkspaceError
from crunch_tasks.files import tree
from crunch_tasks.files.checksums import HashCache
from crunch_tasks.files.known import KnownObjects
from crunch_tasks.files.mounts import mount_at
from crunch_tasks.files.paths import SNAKEMAKE_FOLDER, name_problem
from crunch_tasks.files.walking import Walk, walk

_TRUSTED = "trusted"
_TICK_S = time.clock_getres(getattr(time, "CLOCK_REALTIME_COARSE", time.CLOCK_REALTIME))
_SAME_CLOCK_S = max(2 * _TICK_S, 0.01)
"""A file system whose time differs by less has this machine's clock."""
_OTHER_CLOCK_S = 0.1
_BINDING = "workspace.json"
OWN_FOLDERS = ".own-folders"
HELD_BY_PUSH = "held-by-push"
"""In the state of a dataset that is pushed to: the push holds it, and has to let it go."""

_NO_LOCKS = (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS)
_NODE_LOCAL = 'Use a --directory on this machine\'s own disk, such as "$TMPDIR" on a node of a cluster.'


def check_directory(directory: Path) -> None:
    """Raises WorkspaceError unless workspaces can be made and locked in `directory`; before anything is claimed.

    A lock has to keep other machines out too, where they may see the same directory.
    """
    try:
        (directory / STATE_FOLDER).mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=directory / STATE_FOLDER) as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in _NO_LOCKS:
            raise WorkspaceError(
                f"Files in {directory} cannot be locked: its file system has no flock ({error.strerror}). {_NODE_LOCAL}"
            ) from error
        raise WorkspaceError(
            f"The directory {directory} cannot be written ({error.strerror}). Choose another --directory."
        ) from error
    mount = mount_at(directory)
    if mount and mount.local_locks:
        raise WorkspaceError(
            f"Locks in {directory} would not keep other machines out: {mount.point} ({mount.type}) is mounted with "
            f"{mount.local_locks}. {_NODE_LOCAL}"
        )


def bound_to(state: Path) -> dict[str, Any]:
    """What the workspace with this state folder is for: `site`, `dataset` (its id) and `base_path`.

    Raises FileNotFoundError when it was never bound, WorkspaceError when that cannot be read.
    """
    path = state / _BINDING
    try:
        bound: dict[str, Any] = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise
    except (OSError, ValueError) as error:
        raise WorkspaceError(f"{path} cannot be read ({error}); remove {state} and its workspace") from error
    return bound


@contextlib.contextmanager
def held(state: Path) -> Iterator[str | None]:
    """Hold the workspace with this state folder, if nobody does: yields None then, otherwise who holds it.

    Raises WorkspaceError when there can be no lock file.
    """
    file, is_ours = _take_lock(state)
    with file:
        if not is_ours:
            file.seek(0)
            yield file.read().decode("utf-8", "replace").strip() or "another process"
            return
        # On a full disk the name of the holder is missing, not its lock.
        with contextlib.suppress(OSError):
            file.truncate(0)
            file.write(f"process {os.getpid()} on {socket.gethostname()}\n".encode())
        yield None


def _take_lock(state: Path) -> tuple[FileIO, bool]:
    """The open lock file, and whether its lock is ours."""
    path = state / "lock"
    while True:
        try:
            file = FileIO(make_folder(state) / path.name, "a+")
        except OSError as error:
            raise WorkspaceError(f"{path} cannot be written ({error.strerror}). Choose another --directory.") from error
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return file, False
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(file.fileno()), path.stat()):
                return file, True
        # `crunch clean` took the folder away before we had the lock.
        file.close()


class Workspace:
    """The two folders of one dataset below a directory."""

    remedy = "choose another --directory"
    """What to do where there is no room."""

    def __init__(self, directory: Path, slug: str, *, low_water: int = 0) -> None:
        """`slug` is the dataset's, `project:dataset`; `low_water` bytes of the disk are to stay free.

        Raises WorkspaceError when the slug cannot be a path.
        """
        parts = slug.split(":")
        problem = name_problem("/".join(parts))
        if problem or len(parts) != 2 or any("/" in part for part in parts) or parts[0] == STATE_FOLDER:
            reason = problem or "it is not of the form project:dataset"
            raise WorkspaceError(f"The dataset's slug {slug!r} cannot be a folder: {reason}")
        self.slug = slug
        self.low_water = low_water
        self.directory = Path(directory).absolute()
        self.root = self.directory.joinpath(*parts)
        self.state = self.directory.joinpath(STATE_FOLDER, *parts)
        self.is_settled = False
        """Whether its run is over for good: all of it is told and in its place, so nobody needs its state any more."""

    def make(self) -> None:
        """Make both folders. Raises WorkspaceError when that, or writing in them, is not possible."""
        try:
            self.partial.mkdir(parents=True, exist_ok=True)
            self.root.mkdir(parents=True, exist_ok=True)
            for folder in (self.root, self.state):
                with tempfile.TemporaryFile(dir=folder):
                    pass
        except OSError as error:
            raise WorkspaceError(
                f"The workspace {self.root} cannot be written ({error.strerror}): {error.filename}. "
                "Choose another --directory."
            ) from error

    @property
    def partial(self) -> Path:
        """Where downloads are until they are complete; on the workspace's file system, as they move by rename."""
        return self.state / "partial"

    @property
    def mark(self) -> str:
        """What the environment of its workflow's processes says of it: the same however its path is written."""
        return os.path.realpath(self.root)

    @cached_property
    def hashes(self) -> HashCache:
        return HashCache(self.state / "hashes.json")

    @cached_property
    def known(self) -> KnownObjects:
        return KnownObjects(self.state / "known.jsonl")

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the workspace for this process; the kernel lets go when the process ends, however it ends.

        Raises WorkspaceError, naming the holder, when another one has it.
        """
        with held(self.state) as holder:
            if holder is not None:
                raise WorkspaceError(
                    f"The workspace {self.root} is in use by {holder}. Wait for it, or choose another --directory."
                )
            self.make()
            self.remove_torn()
            yield

    def remove_torn(self) -> None:
        """Remove what a killed client left half written; only for who holds the workspace."""
        remove_torn(self.state)
        tree.remove_torn(self.root, (CRUNCH_FOLDER, f"{SNAKEMAKE_FOLDER}/metadata"))

    def bind(self, site: str, dataset_id: int, base_path: str) -> None:
        """Note what this workspace is for. Raises WorkspaceError when it was made for something else."""
        wanted = {"site": site, "dataset": dataset_id, "base_path": base_path}
        try:
            bound = bound_to(self.state)
        except FileNotFoundError:
            write_durably(self.state / _BINDING, json.dumps(wanted, indent=2).encode())
            reached(Point.WORKSPACE_BOUND)
            return
        if bound != wanted:
            differs = ", ".join(
                f"{name} {bound.get(name)!r}, not {wanted[name]!r}"
                for name in wanted
                if bound.get(name) != wanted[name]
            )
            raise WorkspaceError(
                f"The workspace {self.root} belongs to another dataset ({differs}). "
                "Choose another --directory, or remove that folder and its state in " + str(self.state)
            )

    @cached_property
    def folds(self) -> bool:
        """Whether this file system takes names for one that differ only in case or Unicode form."""
        self.partial.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=self.partial) as folder:
            (Path(folder) / "caf\u00e9").touch()
            return (Path(folder) / "CAF\u00e9").exists() or (Path(folder) / "cafe\u0301").exists()

    def walk(self) -> Walk:
        """The dataset's files here, and what is here but no file of it."""
        return walk(self.root)

    def remove_leftovers(self, keep: Collection[str]) -> list[str]:
        """Remove all but the files in `keep` and the internal folders: a script starts from its inputs alone."""
        try:
            return tree.remove_all_but(self.root, keep)
        except OSError as error:
            raise WorkspaceError(f"What an earlier run left in {self.root} cannot be removed: {error}") from error

    def write(self, path: str, data: bytes) -> None:
        """Write one of Crunch's own files (`.crunch/...`) and a trusted copy that the workflow cannot reach."""
        write_durably(self.state / _TRUSTED / path, data)
        try:
            tree.write_file(self.root, path, data, durably=False)
            reached(Point.OWN_FILE_WRITTEN)
        except OSError as error:
            raise WorkspaceError(f"{path} in {self.root} cannot be written: {error.strerror}") from error

    def read(self, path: str) -> bytes | None:
        """The trusted copy of one of Crunch's own files, or None when it was never written."""
        return tree.read_file(self.state, f"{_TRUSTED}/{path}")

    def tampered(self) -> list[str]:
        """Crunch's own files that are not as `write` left them, for the run to say so; sorted."""
        trusted = walk(self.state / _TRUSTED, internal=True).files
        return [path for path in trusted if tree.read_file(self.root, path) != self.read(path)]

    def has_files(self) -> bool:
        """Whether anything is in the workspace, or left of a download into it."""
        return any(folder.is_dir() and any(folder.iterdir()) for folder in (self.root, self.partial))

    def file_time_ns(self, moment: float) -> int:
        """What this file system, whose clock may be a server's, has for a moment of this machine's `time.time`."""
        return int(moment * 1e9) + self._skew_ns

    def moment_of(self, file_time_ns: int) -> float:
        """The `time.time` of what this file system has for a moment."""
        return (file_time_ns - self._skew_ns) / 1e9

    @property
    def time_margin_s(self) -> float:
        """How far the time of a file's change may be behind the clock: a tick, more where the clock is a server's."""
        return _TICK_S + (_OTHER_CLOCK_S if self._skew_ns else 0.0)

    @cached_property
    def _skew_ns(self) -> int:
        before = time.time()
        with tempfile.TemporaryFile(dir=self.state) as file:
            skew_s = os.fstat(file.fileno()).st_ctime_ns / 1e9 - before
        return int(skew_s * 1e9) if abs(skew_s) > _SAME_CLOCK_S else 0

    def free_bytes(self) -> int:
        return shutil.disk_usage(self.partial).free


class OwnFolder(Workspace):
    """A person's own folder in a workspace's place, to push it to a dataset, pull one there, or compare.

    What is remembered of it is in a state folder of its own; partial downloads must be on its own file system.
    """

    def __init__(self, directory: Path, slug: str, root: Path, *, low_water: int = 0) -> None:
        super().__init__(directory, slug, low_water=low_water)
        self.root = Path(os.path.realpath(root))
        name = hashlib.sha256(f"{slug} {self.root}".encode("utf-8", "surrogateescape")).hexdigest()
        self.state = self.directory / STATE_FOLDER / OWN_FOLDERS / name

    def make(self) -> None:
        """Make the state folder only: a folder may be pushed that cannot be written."""
        make_folder(self.state)

    remedy = "choose another DIR"

    @property
    def partial(self) -> Path:
        """A name that is of this folder and dataset only: what is in it may be removed."""
        return self.root / CRUNCH_FOLDER / f"partial-{self.state.name[:16]}"

    @property
    def of_dataset(self) -> Path:
        """What is remembered of the dataset, whichever folder is pushed to it."""
        return self.state.parent / hashlib.sha256(self.slug.encode("utf-8", "surrogateescape")).hexdigest()

    @contextlib.contextmanager
    def lock_dataset(self) -> Iterator[None]:
        """Be the only push to this dataset from this --directory. Raises WorkspaceError, naming the other one."""
        with held(self.of_dataset) as holder:
            if holder is not None:
                raise WorkspaceError(f"{holder} is pushing to {self.slug}. Wait for it.")
            yield
