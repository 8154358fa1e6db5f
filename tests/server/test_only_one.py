"""What only one may do at a time: in another thread of the server, and in another process, it is refused."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from crunch_tasks.errors import Refused
from server.services.only_one import only_one
from tests.support.site import until

ELSEWHERE = """
import sys, django
django.setup()
from server.services.only_one import only_one
with only_one(sys.argv[1], "Wait."):
    print("in", flush=True)
    sys.stdin.read()
"""


@contextmanager
def another_process(name: str) -> Iterator[subprocess.Popen[bytes]]:
    """A process of the same site that is the only one of this name, until its input ends or it is killed."""
    environment = {**os.environ, "DJANGO_SETTINGS_MODULE": "server.site.settings"}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", ELSEWHERE, name], env=environment, **pipes) as process:  # type: ignore[call-overload]
        try:
            assert process.stdout.readline() == b"in\n"
            yield process
        finally:
            process.kill()


def is_free(name: str) -> bool:
    try:
        with only_one(name, "Wait."):
            return True
    except Refused as refused:
        assert (str(refused), refused.status, refused.code) == ("Wait.", 409, "busy")
        return False


def test_a_second_one_is_refused_until_the_first_is_done(database: None) -> None:
    with only_one("birds", "Wait."), only_one("whales", "Wait."):
        assert not is_free("birds")
    with pytest.raises(ZeroDivisionError), only_one("birds", "Wait."):
        raise ZeroDivisionError
    assert is_free("birds")


@pytest.mark.parametrize("end", ["done", "killed"])
def test_another_process_is_refused_too_until_it_is_done_or_dead(database: None, end: str) -> None:
    with another_process("birds") as other:
        assert not is_free("birds")
        with only_one("whales", "Wait."):
            assert not is_free("birds"), "not even after this process had another name"
        assert is_free("whales") and not is_free("birds")
        if end == "killed":
            other.kill()
        else:
            other.communicate()
        assert other.wait() == (-9 if end == "killed" else 0)
        # PostgreSQL learns a moment later that its client is dead.
        until(lambda: is_free("birds"), what="the name to be free again")
