"""The end of a running workflow's output, for the people who watch its dataset's page."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from crunch_tasks.compute.environment import SHORT_SECRET
from crunch_tasks.compute.process import read_tail
from crunch_tasks.contract import cap_log_tail

HIDDEN = "[hidden]"


def live_tail(log: Path, secrets: Iterable[str]) -> str:
    """The last whole lines of `log`, without `secrets` (the token, the storage's keys); "" when it cannot be read.

    A line that is still being written is left out: a secret in it could not be told from its beginning.
    """
    try:
        with log.open("rb") as file:
            end = read_tail(file.fileno())
    except OSError:
        return ""
    lines = end[: end.rfind(b"\n") + 1].decode("utf-8", "replace")
    return cap_log_tail(without_secrets(lines, secrets))


def without_secrets(text: str, secrets: Iterable[str]) -> str:
    """`text` with each line of a secret hidden; those of fewer than SHORT_SECRET characters are there by chance."""
    parts = {line for secret in secrets for line in secret.splitlines() if len(line) >= SHORT_SECRET}
    # The longest first: one may be a part of another.
    for part in sorted(parts, key=len, reverse=True):
        text = text.replace(part, HIDDEN)
    return text
