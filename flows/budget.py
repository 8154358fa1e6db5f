"""How much of the disk a loop's datasets may take: what is fetched waits until others are gone, and never fills it."""

from __future__ import annotations

from crunch_tasks.errors import NoRoom, WorkspaceError
from crunch_tasks.files.disk import bytes_on_disk
from crunch_tasks.files.workspace import Workspace
from crunch_tasks.settings import ClientSettings


class DiskBudget:
    """Of `most` bytes in the settings' directory: what was there before, and what each dataset in hand takes.

    A dataset that is fetched takes the size of its files before the first byte of them comes; what its workflow adds is
    counted when that has ended. The caller keeps threads apart.
    """

    def __init__(self, settings: ClientSettings, most: int) -> None:
        self._settings = settings
        self._most = most
        self._kept = bytes_on_disk(settings.directory)
        self._in_hand: dict[str, int] = {}

    @property
    def left(self) -> int:
        """Bytes; negative when more was written than was foreseen."""
        return self._most - self._kept - sum(self._in_hand.values())

    def take(self, slug: str, size: int) -> bool:
        """Count `size` bytes for a dataset that is to be fetched; False, and nothing counted, where they do not fit.

        Raises NoRoom where they never will, as no other dataset in hand takes anything.
        """
        here = self._measured(slug)
        if size > self.left + here:
            if not self._in_hand:
                raise NoRoom(f"{slug} has {size} bytes, and {self.left + here} are left of --max-disk. {self._remedy}")
            return False
        self._kept -= here
        self._in_hand[slug] = size
        return True

    def look(self, slug: str) -> None:
        """Count what a dataset in hand takes now."""
        if slug in self._in_hand:
            self._in_hand[slug] = self._measured(slug)

    def end(self, slug: str) -> None:
        """The dataset is not in hand any more; what it left counts as kept."""
        if self._in_hand.pop(slug, None) is not None:
            self._kept += self._measured(slug)

    def check(self) -> None:
        """Raises WorkspaceError when nothing is in hand and nothing is left."""
        if not self._in_hand and self.left <= 0:
            raise WorkspaceError(f"{self._settings.directory} takes all of --max-disk already. {self._remedy}")

    def _measured(self, slug: str) -> int:
        workspace = Workspace(self._settings.directory, slug)
        return bytes_on_disk(workspace.root, workspace.state)

    @property
    def _remedy(self) -> str:
        return f"See by `crunch clean` what may go from {self._settings.directory}, or allow more."
