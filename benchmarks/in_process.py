"""The server in the measuring process: Django, a database of its own, and alice, who may everything."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from django.test import Client


def set_up() -> None:
    """Django with the server's settings, before anything of the server is imported."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "server.site.settings")
    os.environ.setdefault("CRUNCH_SECRET_KEY", "only-for-measuring")
    os.environ["CRUNCH_DATABASE_URL"] = "sqlite://"
    import django

    django.setup()
    from django.test.utils import setup_test_environment

    setup_test_environment()


@contextmanager
def database(url: str) -> Iterator[None]:
    """The database at `url` in place of the settings' one, with its tables."""
    from django.core.management import call_command
    from django.db import connections
    from django.db.utils import ConnectionHandler

    from server.site import environment

    os.environ["CRUNCH_DATABASE_URL"] = url
    before = connections["default"]
    connections["default"] = ConnectionHandler({"default": environment.database()})["default"]
    try:
        call_command("migrate", verbosity=0)
        yield
    finally:
        connections["default"].close()
        cast(Any, connections["default"]).close_pool()
        connections["default"] = before


def alice() -> Client:
    """A client that is signed in, for the pages by session and for the API by token."""
    from django.contrib.auth.models import User
    from django.test import Client
    from rest_framework.authtoken.models import Token

    user = User.objects.create_user("alice", is_superuser=True, is_staff=True)
    browser = Client(headers={"authorization": f"Token {Token.objects.create(user=user).key}"})
    browser.force_login(user)
    return browser
