"""What is said of a request's body that is not taken in: it is too large, or there is no room for it."""

from __future__ import annotations

from crunch_tasks.errors import Refused


def too_large(most: int | None, *, announced: bool = True) -> Refused:
    """For more than `most` bytes; of a body whose length was not announced that is less than it may be otherwise."""
    unless = "" if announced else " without a Content-Length"
    return Refused(f"The request is too large: at most {most} bytes{unless}.", 413, "too_large")


def no_room(error: OSError) -> Refused:
    """For a temporary folder that is full, or not there."""
    told = f"The server has no room to take this in ({error.strerror} in its temporary folder)."
    return Refused(f"{told} Tell who runs it, or send files with: crunch push", 507, "no_room")
