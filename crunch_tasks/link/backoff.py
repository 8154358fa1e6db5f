"""How long to wait before asking a server again."""

from __future__ import annotations

import random

from crunch_tasks.errors import ServerUnavailable

FIRST_WAIT_S = 0.5


def wait_s(failures: int, error: BaseException | None, longest_s: float) -> float:
    """Seconds before the next try after `failures` earlier ones: doubling up to `longest_s`, with jitter.

    At least what the server asked for with Retry-After; the jitter keeps many clients from coming back at once.
    """
    asked_s = error.retry_after_s if isinstance(error, ServerUnavailable) else None
    growing_s = min(longest_s, FIRST_WAIT_S * 2.0 ** min(failures, 16))
    return (asked_s or 0.0) + growing_s * random.uniform(0.5, 1.0)  # noqa: S311 - not for secrets
