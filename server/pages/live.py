"""How an open page stays fresh: its script (`crunch.js`) asks for it again every few seconds and shows what changed.

What is costly to find, such as the files in the storage, is left out of those answers. They tell its version: a text
that is another one when it may have changed. Then the script asks for the whole page, once.
"""

from __future__ import annotations

from django.http import HttpRequest

LIVE = "crunch-live"


def asks_for_news(request: HttpRequest) -> bool:
    """Whether this is the script's regular question."""
    return request.headers.get("X-Requested-With") == LIVE
