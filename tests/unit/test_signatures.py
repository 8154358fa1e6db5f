"""Which failures are alike: what of a note counts, and what differs from one dataset to the next."""

from __future__ import annotations

import pytest

from crunch_tasks.contract import cap_note
from server.signatures import SIGNATURE_LENGTH, signature, telling

SCRIPT = "The script ended with exit code 1.\n\nLast lines of its output:\n"
TRACEBACK = """Reading /scratch/{name}/reads.fq
Traceback (most recent call last):
  File "/data/{name}/fit.py", line {line}, in <module>
    fit(rows)
ValueError: expected 12 columns, got {line} in '{name}.csv'
cleaning up"""
SNAKEMAKE = """Snakemake ended with exit code 1.

Rule plot failed.
End of its log logs/{name}.log:
FileNotFoundError: [Errno 2] No such file or directory: 'results/{name}/table.tsv'

Last lines of its output:
[Tue Nov 3 12:{line}:07 2026]
Finished jobid: {line} (Rule: count)"""


@pytest.mark.parametrize("note", [SCRIPT + TRACEBACK, SNAKEMAKE], ids=["traceback", "snakemake"])
def test_the_same_error_in_two_datasets_is_one(note: str) -> None:
    ones = signature(note.format(name="sample-17", line=31), ["birds:sample-17", "sample-17"])
    others = signature(note.format(name="adelie", line=4), ["birds:adelie", "adelie"])
    assert ones == others
    assert "Error: " in ones


@pytest.mark.parametrize(
    ("note", "expected"),
    [
        (SCRIPT + "ok\nrun.sh: line 3: bwa: command not found", "run.sh: line …: bwa: command not found"),
        (SCRIPT + "took 3.5e-7 s at 2026-05-03T12:00:01Z", "took … s at …"),
        (SCRIPT + "key 9f86d081884c7d65 is missing at 0x7ffe10", "key … is missing at …"),
        (SCRIPT + "cannot open https://a.example/x/1?y=2", "cannot open …"),
        (SCRIPT + "warning: old\nFatal: bad reads\ndone", "Fatal: bad reads"),
        (SCRIPT + "Killed", "Killed"),
        (SCRIPT + "7 rows\nbye", "bye"),
        (SCRIPT.replace("Last", "Rule plot failed.\n\nLast") + "bye", "Rule plot failed."),
    ],
)
def test_of_a_workflow_the_line_that_tells_why(note: str, expected: str) -> None:
    assert signature(note) == f"The script ended with exit code 1. {expected}"


@pytest.mark.parametrize(
    ("note", "expected"),
    [
        ("The script was ended by SIGKILL (signal 9). Memory may have run out.\n\nIt wrote no output.", None),
        ("The script ended with exit code 137, as after SIGKILL in one of its commands.", None),
        ("Cancelled by alice.", None),
        ("birds:d7/a.txt: it is 12 bytes, not 40.\nmore", "birds:…: it is … bytes, not …."),
        ("", "It said nothing."),
        (" \n\n", "It said nothing."),
    ],
)
def test_other_notes_say_it_in_their_first_sentence(note: str, expected: str | None) -> None:
    assert signature(note) == (expected or note.split("\n", maxsplit=1)[0])


RAISED = """Traceback (most recent call last):
  File "/usr/lib/python3/crunch/run.py", line 31, in run
    return
ValueError: expected 12 columns,
got 7
"""
CHAINED = f"""{RAISED}
During handling of the above exception, another exception occurred:

Traceback (most recent call last):
  File "run.py", line 40, in <module>
    done
    ^^^^
requests.exceptions.ConnectionError: no route to host
and so on"""


@pytest.mark.parametrize(
    ("note", "expected"),
    [
        (RAISED, "ValueError: expected … columns,"),
        ("\n" + RAISED.replace("\n", "\r\n"), "ValueError: expected … columns,"),
        (CHAINED, "requests.exceptions.ConnectionError: no route to host"),
        (RAISED.replace("ValueError: expected 12 columns,", "KeyboardInterrupt"), "KeyboardInterrupt"),
        (RAISED.partition("ValueError")[0], "return"),
        (RAISED.partition("\n")[0], "Traceback (most recent call last):"),
        (cap_note(RAISED.replace("    return", "    deeper\n" * 2000)), "ValueError: expected … columns,"),
    ],
    ids=["one", "windows", "chained", "nothing said", "cut", "cut at once", "middle left out"],
)
def test_of_a_traceback_what_was_raised(note: str, expected: str) -> None:
    assert signature(note) == expected


def test_different_errors_are_different() -> None:
    notes = [SCRIPT + "KeyError: 'a'", SCRIPT + "KeyError: 'b'", "The script ended with exit code 2.", "Cancelled."]
    assert len({signature(note) for note in notes}) == len(notes)


def test_a_short_name_is_a_word_like_others() -> None:
    assert signature("This is not a folder.", ["a", "birds:a"]) == "This is not a folder."


def test_the_text_fits_whatever_the_note() -> None:
    for note in (
        "x" * 9000,
        "/" * 9000,
        "a/" * 4000 + "\n" + "1." * 4000,
        "\x1b[31m\ufffd" * 2000,
        "\n".join("ab" * 4000),
    ):
        assert 0 < len(signature(note, [note[:50]])) <= SIGNATURE_LENGTH
        assert "\n" not in telling(note)
