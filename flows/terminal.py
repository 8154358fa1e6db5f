"""What goes to a terminal: text from elsewhere (file names, notes, errors) is shown as it is, and never obeyed."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text


def console(*, stderr: bool = False) -> Console:
    """A console that takes no `[red]`, `:smile:` or number in a text for anything but itself."""
    return Console(stderr=stderr, highlight=False, markup=False, emoji=False)


def shown(text: str) -> str:
    """`text` with each character that a terminal might obey written as its escape; line ends and tabs are kept."""
    return "".join(c if c.isprintable() or c in "\n\t" else c.encode("unicode_escape").decode() for c in text)


def cell(text: str) -> Text:
    """`text` in one line of a table, whole: it is folded where it is too wide."""
    return Text(line(text), overflow="fold")


AsJson = Annotated[bool, typer.Option("--json", help="Print JSON")]


def line(text: str) -> str:
    """`text` in one line: a newline or tab in it is written as its escape too."""
    return shown(text).replace("\n", "\\n").replace("\t", "\\t")
