"""The escape sequences with which programs colour a terminal: for pages and notes, their text without them. Pure."""

from __future__ import annotations

import re

_ESCAPES = re.compile(
    # Colours, and moves of the cursor; of one that was cut off, what there is.
    r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]?"
    # A window's title, a link's address: up to a bell or ESC and a backslash.
    r"|\x1b[\]PX^_][^\x07\x1b\n]*(?:\x07|\x1b\\)?"
    r"|\x1b[ -/]*[0-~]?"
)


def without_escapes(text: str) -> str:
    return _ESCAPES.sub("", text)
