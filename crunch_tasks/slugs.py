"""How a name becomes a part of a slug: the server makes it, and a client can tell which names would make the same."""

from __future__ import annotations

SLUG_PART_BYTES = 100
"""A name's share of a slug; short enough for a folder's name, and for a few levels of the tree."""


def slug_part(name: str) -> str:
    """A name as one part of a slug: ASCII where that leaves something, else the letters of its own script.

    Empty when there is no letter or digit in it.
    """
    # Django is heavy, and no command needs it for its --help.
    from django.utils.text import slugify

    part = slugify(name) or slugify(name, allow_unicode=True)
    return part.encode()[:SLUG_PART_BYTES].decode(errors="ignore").strip("-_")
