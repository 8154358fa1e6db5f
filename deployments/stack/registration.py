"""`python -m deployments.stack.registration`: have the Prefect server at PREFECT_API_URL know what a stack needs of it.

In a process of its own, as Prefect's settings are those of a whole process. May be repeated.
"""

from __future__ import annotations

import sys

from crunch_tasks.errors import CrunchError
from deployments.registering import Wanted, register
from deployments.upkeep import mark_zombies
from flows.standing import standing_prefect


def main() -> None:
    try:
        with standing_prefect() as client:
            register(client, Wanted())
            # A worker may be killed at any time: what it was given, and what it ran, would be under way for ever.
            mark_zombies(client)
    except CrunchError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
