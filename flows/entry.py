"""The first step of the `crunch` command, and its last: Ctrl-C ends it without a word of Python's while the rest is
imported, and in time when all is said.
"""

from __future__ import annotations

import os
import signal
import sys

# Not where it is ignored, as in the background of a shell.
_LISTENS = signal.getsignal(signal.SIGINT) is signal.default_int_handler
if _LISTENS:
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def _fill_closed_streams() -> None:
    """Open what stdin, stdout and stderr lack, as under some schedulers, to nowhere: the next file that is opened, a
    dataset's, would take the place, and all that is printed.
    """
    while (opened := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(opened)
    # Python's own are None where they were closed, and end with the process.
    sys.stdin = sys.stdin or open(0)  # noqa: SIM115
    sys.stdout = sys.stdout or open(1, "w")  # noqa: SIM115
    sys.stderr = sys.stderr or open(2, "w")  # noqa: SIM115


def main() -> None:
    _fill_closed_streams()
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
