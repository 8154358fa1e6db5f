"""Characters that nobody sees but that change what one reads: a page shows them by their numbers, as [U+202E].

Names, notes and files may hold them: such as turn the direction of the text (so that `exe.txt` is read for what ends
in `.exe`) and such as have no width (so that two names look the same). Pure.
"""

from __future__ import annotations

import re

_UNSEEN = re.compile(
    "[\u061c\u180e\u200b\u200e\u200f\u202a-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\U000e0000-\U000e007f]"
    # Letters of some scripts, and pictures, are joined or parted by these; ASCII never is.
    "|(?<=[!-~])[\u200c\u200d]|[\u200c\u200d](?=[!-~])"
)
_KEPT = re.compile(r"(<textarea\b.*?</textarea>|<[^>]*>)", re.DOTALL)
"""A field, which goes back to the server as it is, and any tag with its attributes, in which `>` is escaped."""


def visible(html: str) -> str:
    """The page with each unseen character of its text written as its number."""
    if not _UNSEEN.search(html):
        return html
    parts = _KEPT.split(html)
    parts[::2] = [_UNSEEN.sub(_number, text) for text in parts[::2]]
    return "".join(parts)


def _number(found: re.Match[str]) -> str:
    return f"[U+{ord(found[0]):04X}]"
