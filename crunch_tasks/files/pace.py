"""How slow a line to the storage may be: what a read must move in which time, or it is given up.

An honest slow line is waited for, one that drips is not. A read has to bring STEP bytes (a range of a large object
CHUNK), or its last ones, in every PATIENCE_S. That is 1.6 kB/s for each of 32 small objects at once, or 13 kB/s for
each of 4 ranges: 52 kB/s for the line in both cases, a fifth of a slow ADSL line's. 20 s is longer than most lines are
silent that recover, and all tries of a read end within about a minute.

A write has `Storage.timeout_s`, which the lease has to cover; see `object_store_settings`.
"""

from __future__ import annotations

from crunch_tasks.errors import TooSlow

PATIENCE_S = 20.0
STEP = 32 * 1024
CHUNK = 256 * 1024


def patience_for(timeout_s: float) -> float:
    """Seconds in which a read has to move on, where one request may take `timeout_s`."""
    return min(PATIENCE_S, timeout_s * 0.8)


def too_slow(key: str, description: str, step: int, patience_s: float) -> TooSlow:
    return TooSlow(
        f"{key!r} came too slowly from {description}: less than {step} bytes in {patience_s:g} s "
        f"({step / patience_s / 1000:.1f} kB/s). Run again when the line to the storage is better."
    )
