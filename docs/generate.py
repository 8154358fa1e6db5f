"""Writes the pages that are made from code, `make docs`: docs/command-line.md from the `crunch` command itself, and
docs/permissions.md from the acts and routes of the server. A test fails when one is not current.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import django
import typer

from flows.cli import app

PAGE = Path(__file__).with_name("command-line.md")
PERMISSIONS_PAGE = Path(__file__).with_name("permissions.md")
GROUPS = {
    "Process datasets": ("run", "next", "loop", "dispatch"),
    "Process again": ("retry",),
    "A dataset's files": ("files", "push", "pull", "verify"),
    "The local directory": ("sync", "clean"),
    "The local stack": ("up", "down", "status"),
    "Look": ("list", "logs", "diagnostics"),
    "Fill the catalogue": ("import", "export", "import-site", "add-project", "add-dataset", "add-item"),
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
| 2 | wrong usage: an option, a setting, a settings file, a refused token, a project or dataset that is not there |
| 3 | nothing to process (`next`, and `run` when the server gives no claim), or no time for it |
| 4 | the lease was lost: another client has the dataset, or it was reset |
| 130, 143 | stopped by Ctrl-C or SIGTERM |
| 141 | who read the output went away (`crunch export ... \\| head`) |

`loop` ends with 1 if any run did, else with 4 if any run did, with 130 after Ctrl-C, also if what computed came to its
end, with 3 if there was no time for any, else with 0.
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
    return f"| `{_cell(words)}` | {_cell(text.replace('  [', ' ['))} |"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


PERMISSIONS = """\
# Who may do what

<!-- Made by `make docs` from server/permissions.py and the routes themselves. -->

A project has **members**, each with a role: viewer, runner, editor or manager, each of which may do all that the ones
before it may. Whoever makes a project is its manager. To edit the **workflow**, which runs on every client's machine,
is a right of its own: a manager has it, an editor gets it by name. A member of the site's staff is a manager of every
project.

A **private** project is not there (404) for whoever is no member; a **public** one can be seen by anyone, and nobody
gets any other right by that. A manager can switch it at any time.

A **token** may have a scope: one project, and a role that it does not go beyond. What its owner may not do, it may not
either. The pages ask for a session, the API for a session or a token; a stranger gets 401 there, and on a page that
needs more the way to sign in.

## Acts

| act | anyone | signed in | viewer | runner | editor | manager |
|---|:-:|:-:|:-:|:-:|:-:|:-:|
{acts}

¹ In a public project. ² With the right to edit the workflow. ³ Not with a token of narrower scope.

## Routes

In this order they are looked for. What a route needs in addition, it says itself: a claim is its user's own.

| | route | act |
|---|---|---|
{routes}
"""


def permissions_page() -> str:
    """The whole page of rights."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "server.site.settings")
    os.environ.setdefault("CRUNCH_SECRET_KEY", "only-to-read-the-routes")
    django.setup()
    from server.permissions import NEEDS
    from server.routes import routes

    acts = "\n".join(f"| {act} | {' | '.join(_who_may(need))} |" for act, need in NEEDS.items())
    rows = "\n".join(f"| {route.method} | `{route.path}` | {route.act} |" for route in routes())
    return PERMISSIONS.format(acts=acts, routes=rows)


def _who_may(need: Any) -> list[str]:
    if need.role is None:
        inside = "staff³" if need.staff else "yes³" if need.whole else "yes"
        return ["" if need.signed_in else "yes", *[inside] * 5]
    outside = "yes¹" if need.public and not need.signed_in else ""
    ranks = [rank >= need.role.rank for rank in range(4)]
    roles = ["yes" if may else "" for may in ranks]
    if need.own_right:
        roles = [f"{word}²" if word and rank < 3 else word for rank, word in enumerate(roles)]
    return [outside, "yes¹" if need.public else "", *roles]


if __name__ == "__main__":
    for path, text in ((PAGE, page()), (PERMISSIONS_PAGE, permissions_page())):
        path.write_text(text, encoding="utf-8")
        sys.stdout.write(f"{path}\n")
