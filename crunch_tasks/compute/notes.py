"""From how a command ended to the note of a Fail: what happened, then the end of its output."""

from __future__ import annotations

import signal

from crunch_tasks.compute.process import Outcome
from crunch_tasks.contract import cap_note

LAST_LINES = 60


def signal_name(number: int) -> str:
    """`SIGKILL` for 9; a number without a name as it is."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def what_happened(what: str, outcome: Outcome, timeout_s: float | None = None) -> str:
    """One sentence on how `what` ("The script") ended, with its exit code, signal or time limit."""
    if outcome.timed_out:
        limit = f"{timeout_s:g} s" if timeout_s is not None else "time"
        return f"{what} ran longer than its limit of {limit} and was ended."
    if outcome.signal is not None:
        hint = " Memory may have run out." if outcome.signal == signal.SIGKILL else ""
        return f"{what} was ended by {signal_name(outcome.signal)} (signal {outcome.signal}).{hint}"
    code = outcome.returncode
    hint = ""
    if code is not None and 128 < code <= 128 + signal.NSIG:
        hint = f", as after {signal_name(code - 128)} in one of its commands"
    elif code == 127:
        hint = ", as after a command that was not found"
    return f"{what} ended with exit code {code}{hint}."


def failure_note(what: str, outcome: Outcome, timeout_s: float | None = None, details: str = "") -> str:
    """The note of a Fail: the sentence of `what_happened`, `details`, and the last lines of the output.

    Fit for the wire: without NUL, capped, head and tail kept.
    """
    parts = [what_happened(what, outcome, timeout_s), details.strip()]
    if outcome.survivors:
        parts.append(f"{outcome.survivors} of its processes could not be ended.")
    if outcome.log_error:
        parts.append(f"Its log is not complete: {outcome.log_error}.")
    lines = outcome.log_tail.splitlines()[-LAST_LINES:]
    parts.append("Last lines of its output:\n" + "\n".join(lines) if lines else "It wrote no output.")
    return cap_note("\n\n".join(part for part in parts if part))
