"""The server in the measuring process: Django, a database of its own, and alice, who may everything."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from django.db.backends.base.base import BaseDatabaseWrapper
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
def database(url: str) -> Iterator[BaseDatabaseWrapper]:
    """The database at `url` in place of the settings' one, with its tables. Yields its connection, for `use`."""
    from django.core.management import call_command
    from django.db import connections
    from django.db.utils import ConnectionHandler

    from server.site import environment

    os.environ["CRUNCH_DATABASE_URL"] = url
    before = connections["default"]
    ours = ConnectionHandler({"default": environment.database()})["default"]
    use(ours)
    try:
        call_command("migrate", verbosity=0)
        # A pool belongs to an alias: two databases at once need two.
        _close(ours)
        ours.alias = url
        connections[url] = ours
        yield ours
    finally:
        del connections[url]
        _close(ours)
        use(before)


def _close(connection: BaseDatabaseWrapper) -> None:
    connection.close()
    cast(Any, connection).close_pool()


def use(connection: BaseDatabaseWrapper) -> None:
    """Let this connection be the one that the server uses."""
    from django.db import connections

    connections["default"] = connection


def alice() -> Client:
    """A client that is signed in, for the pages by session and for the API by token."""
    from django.contrib.auth.models import User
    from django.test import Client
    from rest_framework.authtoken.models import Token

    user = User.objects.create_user("alice", is_superuser=True, is_staff=True)
    browser = Client(headers={"authorization": f"Token {Token.objects.create(user=user).key}"})
    browser.force_login(user)
    return browser
