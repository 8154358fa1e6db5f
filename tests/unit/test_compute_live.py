"""What is told of a running workflow's output: whole lines, little, without secrets."""

from __future__ import annotations

from pathlib import Path

from crunch_tasks.compute.live import live_tail
from crunch_tasks.compute.process import TAIL_BYTES
from crunch_tasks.contract import LOG_TAIL_BYTES, cap_log_tail

TOKEN = "0123456789abcdef"
KEY = "-----BEGIN KEY-----\nMIIEvAIBADAN\nBgkqhkiG9w0B\n-----END KEY-----\n"


def tail(log: Path, output: bytes) -> str:
    log.write_bytes(output)
    return live_tail(log, [TOKEN, KEY, "a", ""])


def test_whole_lines_without_secrets(tmp_path: Path) -> None:
    log = tmp_path / "workflow.log"
    assert live_tail(log, []) == ""
    assert tail(log, b"a line\nhalf a li") == "a line\n"
    assert tail(log, f"token={TOKEN}\n{KEY}{TOKEN[:9]}".encode()) == "token=[hidden]\n" + "[hidden]\n" * 4
    assert tail(log, f"\x1b[32mtoken=\x1b[1m{TOKEN[:9]}\x1b[m{TOKEN[9:]}\n".encode()) == "token=[hidden]\n"
    assert tail(log, b"\xff\x00\n") == "\N{REPLACEMENT CHARACTER}\n"


def test_only_the_end_of_much(tmp_path: Path) -> None:
    lines = "".join(f"line {number} \u00e4\n" for number in range(100_000))
    found = tail(tmp_path / "workflow.log", lines.encode())
    assert lines.endswith(found) and found.startswith("line ")
    assert LOG_TAIL_BYTES - 100 < len(found.encode()) <= LOG_TAIL_BYTES
    assert cap_log_tail("\x1b[1m" * LOG_TAIL_BYTES + "few\n") == "few\n"
    assert len(cap_log_tail("\u00e4" * LOG_TAIL_BYTES).encode()) <= LOG_TAIL_BYTES


def test_no_colours_also_where_the_read_or_the_writer_cut_them(tmp_path: Path) -> None:
    log = tmp_path / "workflow.log"
    written = b"\x1b[1;31mred\x1b[0m\x1b]0;title\x07 \x1b(Bplain\x1b[K\x1b[38;5;\n[1] a[0]\n"
    assert tail(log, written) == "red plain\n[1] a[0]\n"
    # So much that the first of the bytes that are read is in the middle of the code, and little is left of it.
    coloured = b"\x1b[31m" * 100 + b"a\n"
    for cut in range(1, 6):
        whole = coloured * (TAIL_BYTES // len(coloured) + 2)
        shown = tail(log, whole[: len(whole) - len(whole) % len(coloured)] + b"x" * cut + b"\n")
        assert set(shown.splitlines()) == {"a", "x" * cut}
