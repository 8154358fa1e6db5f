"""The Django app: add "server" to INSTALLED_APPS and include "server.urls" under any prefix."""

from __future__ import annotations

from django.apps import AppConfig
from django.db.models.signals import post_migrate


class ServerConfig(AppConfig):
    name = "server"
    label = "server"
    verbose_name = "Crunch"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        # Importing the module registers the checks.
        from server import checks, triggers  # noqa: F401

        post_migrate.connect(triggers.install, sender=self)
