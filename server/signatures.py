"""What failures have in common: from the note of a Fail to a text that is the same for failures that are alike.

Pure. The note is Crunch's own first sentence and, below it, the end of the workflow's output, as
`crunch_tasks.compute.notes` puts it together; an old client's note may be anything.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

SIGNATURE_LENGTH = 200
EXAMPLE_LENGTH = 500

GAP = "…"
"""What stands for that which differs from one dataset to the next."""

_ENDED = re.compile(r"^\S+(?: \S+)? (?:ended with exit code|was ended by)")
"""Sentences that say only that something ended; the output says why."""

_TELLING = re.compile(
    r"\b\w*(?:error|exception)\b|\b(?:fatal|panic|failed|failure|killed|abort\w*|denied|refused|invalid|missing)\b"
    r"|not found|no such|cannot|can't|could not|unable to|no space|out of memory|segmentation fault",
    re.IGNORECASE,
)

_DIFFERS = re.compile(
    r"""
    # a date with or without a time, or a time
    \d{4}-\d\d-\d\d (?: [T\ ] \d\d:\d\d (?: :\d\d (?: [.,]\d+ )? )? (?: Z | [+-]\d\d:?\d\d )? )?
    | \d\d?:\d\d:\d\d (?: [.,]\d+ )?
    # a path or an address in the web
    | (?: https?:/ | ~ )? [\w.@%+=-]* / [^\s'"`,;:()<>\[\]{}|]+
    # a place in memory, a UUID, a sum
    | \b (?: 0x [0-9a-f]+ | [0-9a-f]{8} (?: -[0-9a-f]{4} ){3} -[0-9a-f]{12} ) \b
    | \b (?= [a-f]* \d ) [0-9a-f]{7,} \b
    # a number, but for exit codes and signals
    | (?<! \d ) (?<! code\ ) (?<! signal\ ) [+-]? \d+ (?: [.,]\d+ )* (?: e[+-]?\d+ )?
    """,
    re.IGNORECASE | re.VERBOSE,
)

OUTPUT = "Last lines of its output:"
_RULE = re.compile(r"Rule \S+ failed\.$|End of its log ")
_NOTHING = (OUTPUT, "It wrote no output.")

_TRACEBACK = "Traceback (most recent call last):"
_RAISED = re.compile(r"[^\W\d][\w.]*(?::\s.*|:?\s*)$")
"""How Python ends a traceback: `ValueError: no rows`, or the exception's name alone."""

_SHORTEST_NAME = 3
"""Shorter names of datasets are words of sentences as well."""


def telling(note: str) -> str:
    """What the note says went wrong, on one line: its first sentence, and the line of the output that tells why; of a
    traceback that is the whole note, what was raised.
    """
    lines = [" ".join(line.split()) for line in note.splitlines()]
    lines = [line[:EXAMPLE_LENGTH] for line in lines if line]
    if not lines:
        return "It said nothing."
    first, rest = lines[0], lines[1:]
    if first == _TRACEBACK:
        return _raised(note)
    why = _why(rest) if _ENDED.match(first) else ""
    return f"{first} {why}".strip()[:EXAMPLE_LENGTH]


def signature(note: str, names: Iterable[str] = ()) -> str:
    """`telling`, without what differs between datasets: `names` of the dataset itself, paths, times, sums, numbers."""
    text = telling(note)
    for name in sorted(names, key=len, reverse=True):
        if len(name) >= _SHORTEST_NAME:
            text = re.sub(rf"(?<!\w){re.escape(name)}(?!\w)", GAP, text)
    text = _DIFFERS.sub(GAP, text)
    return re.sub(rf"{GAP}(?:[ .:/_-]?{GAP})+", GAP, text)[:SIGNATURE_LENGTH]


def _raised(note: str) -> str:
    """What the last traceback of the note ends with; of one that was cut off, the note's last line."""
    lines = [line for line in note.rpartition(_TRACEBACK)[2].splitlines() if line.strip()]
    found = next((line for line in lines if _RAISED.match(line)), lines[-1] if lines else _TRACEBACK)
    return " ".join(found.split())[:EXAMPLE_LENGTH]


def _why(below: Sequence[str]) -> str:
    """The last line that sounds like an error, for what comes before it is often a warning: of what Crunch tells of
    failed rules, else of the output. Without one, which rule failed, or the output's last line.
    """
    cut = below.index(OUTPUT) if OUTPUT in below else 0
    rules, output = below[:cut], below[cut:]
    for lines in (rules, output):
        for line in reversed(lines):
            if _TELLING.search(line) and not _RULE.match(line):
                return line
    named = [line for line in rules if _RULE.match(line)] or [line for line in output if line not in _NOTHING]
    return named[-1] if named else ""
