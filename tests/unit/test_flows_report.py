"""What people see of runs: lines, the table, the artifact, exit codes; and that no text in them is obeyed."""

from __future__ import annotations

import contextvars
import io
import threading
import uuid

import pytest
from markdown_it import MarkdownIt
from rich.console import Console

from crunch_tasks.contract import Stage
from crunch_tasks.files.manifest import Entry, Manifest
from crunch_tasks.files.transfer import Progress
from crunch_tasks.run import Result
from flows import artifact
from flows.artifact import ROWS, TABLE_ROWS, TransferWatch, summary, table
from flows.bars import transfer_bar
from flows.loop import LoopOutcome
from flows.report import SIGNS, Outcome, Report
from flows.terminal import shown

HOSTILE = [
    "a|b",
    "`code`",
    "<script>alert(1)</script>",
    "[click](javascript:alert(1))",
    "![](http://h/x.png)",
    "**bold** _it_ ~~x~~",
    "line\nbreak | x",
    "&amp; &#60;b&#62;",
    "http://example.org/live",
    "www.example.org",
    "\\| \\`",
    "$x$ <!-- -->",
    "ä/x.csv",
]


def entry(number: int = 1) -> Entry:
    return Entry("0" * 32, number, 0)


def test_hostile_names_are_text_in_the_artifact() -> None:
    before = Manifest({"gone|": entry(), "same": entry(), "changed": entry(1)})
    after = Manifest({"same": entry(), "changed": entry(2), **{name: entry() for name in HOSTILE}})

    markdown = summary("p:d", "http://h/p", before, after)
    html = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"]).render(markdown)

    assert f"{len(HOSTILE)} added, 1 modified, 1 deleted, 1 unchanged" in markdown
    # One link and one table, each name in one cell of one row.
    assert html.count("<a ") == 1 and '<a href="http://h/p">p:d</a>' in html
    assert not any(tag in html for tag in ("<script", "<img", "<strong", "<em>", "<s>", "<code", "<!--", "<b>"))
    assert html.count("<tr>") == 1 + len(HOSTILE) + 2
    assert html.count("<td") == 4 * (len(HOSTILE) + 2)
    for name in HOSTILE:
        escaped = name.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
        assert f"<td>{escaped}</td>" in html, name


def test_the_artifact_is_as_long_as_a_page() -> None:
    after = Manifest({f"f{number:03}": entry() for number in range(ROWS + 7)})
    markdown = summary("p:d", "", Manifest({}), after)
    assert markdown.count("| new |") == ROWS
    assert "and 7 more" in markdown
    assert "### p:d\n" in markdown
    assert "|" not in summary("p:d", "", after, after)


@pytest.fixture
def screen() -> io.StringIO:
    return io.StringIO()


def report_to(screen: io.StringIO, *, terminal: bool = False) -> Report:
    console = Console(
        file=screen, width=120, force_terminal=terminal, highlight=False, markup=False, emoji=False, color_system=None
    )
    return Report(console)


@pytest.mark.parametrize("terminal", [False, True])
def test_every_result_has_a_line_and_a_row(screen: io.StringIO, terminal: bool) -> None:
    assert SIGNS.keys() == set(Result)
    note = "why [red]x[/red] :smile: \x1b[31m\x07 [/]"
    outcomes = [Outcome(f"p:d{number}", result, 1.25, note, 2, 3, "/w") for number, result in enumerate(Result)]
    with report_to(screen, terminal=terminal) as report:
        for outcome in outcomes:
            report.doing(outcome.dataset, "Workflow 1/2 rule [/bold] \x1b[5m")
            report.ended(outcome)
        report.table(outcomes, 7.6)
    said = screen.getvalue()
    for outcome in outcomes:
        sign = SIGNS[outcome.result][0]
        assert f"{sign} {outcome.dataset}  {outcome.result.value}  1.2 s  2 down, 3 up" in said
        assert f"{sign} {outcome.result.value}" in said
    # A completed run's note is about what was left out, and is in its status.
    assert said.count("why [red]x[/red] :smile: \\x1b[31m\\x07 [/]") == len(outcomes)
    # Failed, cancelled, lease lost.
    assert said.count("Its files stay in /w.") == 3
    assert f"{len(outcomes)} datasets in 8 s: 1 completed, 1 failed" in said
    assert "\x07" not in said and "\x1b[31m" not in said and "\x1b[5m" not in said


def test_a_long_note_is_shown_by_its_head_and_tail(screen: io.StringIO) -> None:
    note = "\n".join(f"line {number}" for number in range(100))
    report_to(screen).ended(Outcome("p:d", Result.FAILED, 1, note))
    said = screen.getvalue()
    assert "line 0\n" in said and "line 99\n" in said and "line 50\n" not in said and "…" in said


def test_a_loop_without_datasets_says_so(screen: io.StringIO) -> None:
    report_to(screen).table([], 0)
    assert screen.getvalue() == "0 datasets in 0 s: nothing to process\n"


@pytest.mark.parametrize(
    ("results", "code"),
    [
        ([], 0),
        ([Result.COMPLETED, Result.RELEASED], 0),
        ([Result.COMPLETED, Result.LEASE_LOST], 4),
        ([Result.LEASE_LOST, Result.FAILED, Result.COMPLETED], 1),
        ([Result.CANCELLED], 1),
        ([Result.UNDELIVERED, Result.LEASE_LOST], 1),
        ([Result.NO_TIME], 3),
        ([Result.NO_TIME, Result.COMPLETED], 0),
        ([Result.NO_TIME, Result.COMPLETED, Result.LEASE_LOST], 4),
    ],
)
def test_a_loops_exit_code_is_that_of_its_worst_run(results: list[Result], code: int) -> None:
    loop = LoopOutcome([Outcome("p:d", result, 1) for result in results], 1)
    assert loop.exit_code == code
    assert loop.as_json()["exit_code"] == code


def test_text_is_shown_as_it_is_or_as_its_escape() -> None:
    assert shown("ä [x] :a:\tb\n") == "ä [x] :a:\tb\n"
    assert shown("\x1b]0;t\x07\r\x9b\u202e\udcff") == "\\x1b]0;t\\x07\\r\\x9b\\u202e\\udcff"


def test_the_table_of_a_manifest_says_what_became_of_each_file_and_has_an_end() -> None:
    before = Manifest({"gone": entry(), "same": entry(), "changed": entry(1)})
    after = Manifest({"same": entry(), "changed": entry(2), "new|<b>": entry(3)})
    assert table(before, after) == [
        {"file": "changed", "bytes": 2, "MD5": "0" * 32, "change": "modified"},
        {"file": "new|<b>", "bytes": 3, "MD5": "0" * 32, "change": "new"},
        {"file": "same", "bytes": 1, "MD5": "0" * 32, "change": ""},
    ]
    assert len(table(before, Manifest({str(number): entry() for number in range(TABLE_ROWS + 1)}))) == TABLE_ROWS


def test_a_bar_shows_files_bytes_rate_and_time_and_only_to_a_person() -> None:
    screen = Console(file=io.StringIO(), force_terminal=True, width=120)
    with transfer_bar("push p:d", to=screen) as tell:
        tell(Progress(3, 10, 5_000_000, 20_000_000, seconds=1.0))
    shown_there = screen.file.getvalue()  # type: ignore[attr-defined]
    for said in ("push p:d", "3/10 files", "5.0/20.0 MB"):
        assert said in shown_there
    for quiet, terminal in ((True, True), (False, False)):
        screen = Console(file=io.StringIO(), force_terminal=terminal, width=120)
        with transfer_bar("push p:d", quiet=quiet, to=screen) as tell:
            tell(Progress(3, 10, 5_000_000, 20_000_000, seconds=1.0))
        assert screen.file.getvalue() == ""  # type: ignore[attr-defined]


def test_a_long_transfer_is_an_artifact_of_its_flow_run_and_a_short_one_is_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made: list[tuple[str, float, str]] = []
    moved: list[float] = []
    flow_run: contextvars.ContextVar[str] = contextvars.ContextVar("flow run", default="none")
    artifact_id = uuid.uuid4()

    def create(percent: float, *, key: str, description: str) -> uuid.UUID:
        made.append((flow_run.get(), percent, key))
        return artifact_id

    monkeypatch.setattr(artifact, "create_progress_artifact", create)
    monkeypatch.setattr(artifact, "update_progress_artifact", lambda _, progress: moved.append(progress))
    flow_run.set("ours")
    watch = TransferWatch("p:d", 7)

    def tell(*states: Progress) -> None:
        for state in states:
            # A thread that knows nothing of the flow run.
            thread = threading.Thread(target=contextvars.Context().run, args=(watch, Stage.SETUP, state))
            thread.start()
            thread.join()

    tell(Progress(1, 2, 1, 4, seconds=0.5), Progress(2, 2, 4, 4, seconds=1.0))
    assert (made, moved) == ([], [])
    tell(Progress(1, 2, 1, 4, seconds=4.0), Progress(1, 2, 2, 4, seconds=4.1), Progress(2, 2, 4, 4, seconds=4.2))
    assert made == [("ours", 25.0, "setup-7")]
    assert moved == [100.0]
    monkeypatch.setattr(artifact, "update_progress_artifact", lambda *_, **__: (_ for _ in ()).throw(OSError("away")))
    tell(Progress(2, 2, 4, 4, seconds=9.0))
