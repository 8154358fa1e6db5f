"""The first step of the `crunch` command: while the rest is imported, Ctrl-C ends it without a word of Python's."""

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
    run_command()
