"""Commands that take `--project P`: whoever writes only P is told so."""

from __future__ import annotations

from typing import Any

from typer.core import TyperCommand

from crunch_tasks.errors import UsageError


class OfProject(TyperCommand):
    """A command with an option `--project`. Raises UsageError for a word too many where that option is not given."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        given, extra, _ = self.make_parser(ctx).parse_args(list(args))
        if extra and not (given.get("project") or given.get("help")):
            raise UsageError(f"{ctx.info_name} takes no such word: {extra[0]!r}. Did you mean --project {extra[0]}?")
        return super().parse_args(ctx, args)
