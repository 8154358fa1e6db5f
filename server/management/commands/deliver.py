"""`python -m server deliver`: send what webhooks are due, once. For cron, in a site whose server has no such thread."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand

from server.services import webhooks


class Command(BaseCommand):
    help = "Send what webhooks are due. May run beside the server, which does the same by itself."

    def handle(self, *_: Any, **__: Any) -> None:
        number = webhooks.deliver()
        self.stdout.write(f"{number} deliver{'y' if number == 1 else 'ies'} tried")
