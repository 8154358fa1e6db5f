"""The end of a running workflow's output, for the people who watch its dataset's page."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from crunch_tasks.compute.environment import SHORT_SECRET
from crunch_tasks.compute.process import TAIL_BYTES, read_tail
from crunch_tasks.contract import cap_log_tail
from crunch_tasks.escapes import without_escapes

HIDDEN = "[hidden]"


def live_tail(log: Path, secrets: Iterable[str]) -> str:
    """The last whole lines of `log`, without `secrets` (the token, the storage's keys); "" when it cannot be read.

    A line that is still being written is left out: a secret in it could not be told from its beginning. So is one whose
    beginning was not read: it may begin in the middle of a colour's code.
    """
    try:
        with log.open("rb") as file:
            end = read_tail(file.fileno())
    except OSError:
        return ""
    lines = end[: end.rfind(b"\n") + 1]
    if len(end) == TAIL_BYTES:
        lines = lines.partition(b"\n")[2] or lines
    # The colours first: one in the middle of a secret would hide it from us, and not from people.
    return cap_log_tail(without_secrets(without_escapes(lines.decode("utf-8", "replace")), secrets))


def without_secrets(text: str, secrets: Iterable[str]) -> str:
    """`text` with each line of a secret hidden; those of fewer than SHORT_SECRET characters are there by chance."""
    parts = {line for secret in secrets for line in secret.splitlines() if len(line) >= SHORT_SECRET}
    # The longest first: one may be a part of another.
    for part in sorted(parts, key=len, reverse=True):
        text = text.replace(part, HIDDEN)
    return text
