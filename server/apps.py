"""The Django app: add "server" to INSTALLED_APPS and include "server.urls" under any prefix."""

from __future__ import annotations

from django.apps import AppConfig
from django.contrib.auth.signals import user_logged_in
from django.db.models.signals import post_migrate


class ServerConfig(AppConfig):
    name = "server"
    label = "server"
    verbose_name = "Crunch"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        # Importing the module registers the checks.
        from server import checks, triggers  # noqa: F401
        from server.operations import sign_in

        post_migrate.connect(triggers.install, sender=self)
        user_logged_in.connect(sign_in.forget)
