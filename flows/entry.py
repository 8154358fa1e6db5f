"""The first step of the `crunch` command, and its last: Ctrl-C ends it without a word of Python's while the rest is
imported, and in time when all is said.
"""

from __future__ import annotations

import signal

# Not where it is ignored, as in the background of a shell.
_LISTENS = signal.getsignal(signal.SIGINT) is signal.default_int_handler
if _LISTENS:
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def main() -> None:
    from flows.cli import main as run_command

    if _LISTENS:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    from crunch_tasks.stopping import end_in_time

    try:
        run_command()
    except SystemExit as end:
        if isinstance(end.code, int):
            end_in_time(end.code)
        raise
