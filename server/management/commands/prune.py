"""`python -m server prune`: remove what need not be kept. To be run each night, say."""

from __future__ import annotations

import datetime as dt
import re
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from server.services import pruning


class Command(BaseCommand):
    help = "Remove what has expired and, if asked, what old statuses tell of machines. Clients may go on meanwhile."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--diagnostics-older-than",
            metavar="DAYS",
            help="blank what statuses older than this tell of machines, such as 90d; their notes stay",
        )
        parser.add_argument("--dry-run", action="store_true", help="say what would be removed, and remove nothing")

    def handle(self, *_: Any, diagnostics_older_than: str | None, dry_run: bool, **__: Any) -> None:
        age = days(diagnostics_older_than) if diagnostics_older_than is not None else None
        would = "would be " if dry_run else ""
        for name in pruning.EXPIRED:
            number = pruning.remove_expired(name, dry_run=dry_run)
            self.stdout.write(f"{number} expired {name} {would}removed")
        if age is not None:
            number = pruning.blank_diagnostics(age, dry_run=dry_run)
            self.stdout.write(f"diagnostics of {number} statuses older than {age.days} days {would}blanked")


def days(text: str) -> dt.timedelta:
    """The time that `90d` means. Raises CommandError."""
    if not (found := re.fullmatch(r"([0-9]{1,5})d", text)):
        raise CommandError(f"--diagnostics-older-than: {text!r} is not a number of days. Write it like 90d.")
    return dt.timedelta(days=int(found[1]))
