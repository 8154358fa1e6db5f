"""What only one may do at a time: in another connection, and so another process, it is refused."""

from __future__ import annotations

import pytest
from django.db import connection

from crunch_tasks.errors import Refused
from server.services.only_one import key_of, only_one


def test_a_second_one_is_refused_until_the_first_is_done(database: None) -> None:
    with only_one("birds", "Wait."), only_one("whales", "Wait."):
        refused = pytest.raises(Refused, match=r"Wait\.")
        with refused, only_one("birds", "Wait."):
            pass
    with pytest.raises(ZeroDivisionError), only_one("birds", "Wait."):
        raise ZeroDivisionError
    with only_one("birds", "Wait."):
        pass


def test_another_process_is_refused_too(database: None) -> None:
    if connection.vendor != "postgresql":
        pytest.skip("a server on SQLite has one process")
    other = connection.copy()
    try:
        with other.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_lock(%s)", [key_of("birds")])
            refused = pytest.raises(Refused, match=r"Wait\.")
            with refused, only_one("birds", "Wait."):
                pass
            cursor.execute("SELECT pg_advisory_unlock(%s)", [key_of("birds")])
        with only_one("birds", "Wait."), other.cursor() as cursor:
            cursor.execute("SELECT pg_try_advisory_lock(%s)", [key_of("birds")])
            assert cursor.fetchone() == (False,)
    finally:
        other.close()
