"""Writes docs/command-line.md from the `crunch` command itself: `make docs`. A test fails when it is not current."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import typer

from crunch_tasks.settings import RunOptions
from flows.cli import app

PAGE = Path(__file__).with_name("command-line.md")
GROUPS = {
    "Process datasets": ("run", "next", "loop"),
    "Process again": ("retry",),
    "A dataset's files": ("files", "push", "pull", "verify"),
    "The local directory": ("sync", "clean"),
    "Look": ("diagnostics",),
    "Fill the catalogue": ("add-project", "add-dataset", "add-item"),
    "Add an attribute": (),
}
"""The page's sections; the last takes every command that no other one names."""

HEAD = """\
# The command line

<!-- Made by `make docs` from the commands themselves; edit their help in flows/ instead. -->

`crunch COMMAND`, or `.venv/bin/crunch COMMAND` in a checkout. `python -m flows.run`, `python -m flows.next` and
`python -m flows.loop` are the same as `crunch run`, `crunch next` and `crunch loop`.

The settings `--url`, `--token`, `--storage-settings` and `--directory` are better kept in the environment; see
[settings](settings.md). A command asks at a terminal for those of the first three that it needs and does not find.

| exit code | meaning |
|---:|---|
| 0 | done |
| 1 | a run failed, was cancelled, or could not be reported in time |
| 2 | wrong usage: an option, a setting, a settings file, a refused token |
| 3 | nothing to process (`next`, and `run` when the server gives no claim) |
| 4 | the lease was lost: another client has the dataset, or it was reset |
| 130, 143 | stopped by Ctrl-C or SIGTERM |

`loop` ends with 1 if any run did, else with 4 if any run did, else with 0.
"""


def page() -> str:
    """The whole page."""
    commands: dict[str, Any] = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    named = {name for names in GROUPS.values() for name in names}
    parts = [HEAD]
    for title, names in GROUPS.items():
        parts.append(f"## {title}\n")
        parts += [_command(name, commands[name]) for name in names or [name for name in commands if name not in named]]
    return "\n".join(parts)


def _command(name: str, command: Any) -> str:
    context = typer.Context(command, info_name=f"crunch {name}")
    usage = " ".join(command.get_usage(context).removeprefix("Usage: ").split())
    rows = [_row(parameter, context) for parameter in command.params]
    return "\n".join([f"### {name}\n", command.help, "", f"    {usage}", "", "| | |", "|---|---|", *rows, ""])


def _row(parameter: Any, context: typer.Context) -> str:
    words, text = parameter.get_help_record(context)
    field = RunOptions.model_fields.get(parameter.name)
    if field is not None and field.default_factory is not None:
        # What this machine happens to have is no default of the command.
        text = re.sub(r"\[default: .*\]", "[default: all that the process may use]", text)
    return f"| `{_cell(words)}` | {_cell(text.replace('  [', ' ['))} |"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    sys.stdout.write(f"{PAGE}\n")
