"""Whether the process lives, and whether the server can do its work: for load balancers and whoever restarts it.

Anyone may ask, so an answer says which part fails and no more; why is in the server's log.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as TooSlow
from threading import Lock

from django.conf import settings
from django.db import connection
from django.db.migrations.loader import MigrationLoader
from django.db.migrations.recorder import MigrationRecorder
from django.http import HttpRequest, JsonResponse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from crunch_tasks.files.opening import open_storage
from crunch_tasks.files.storage import check_reachable

TIMEOUT_S = 3.0
"""How long each part has to answer, in seconds; they are asked at the same time."""

_log = logging.getLogger(__name__)


def database_problem() -> str:
    """What the database lacks, or "". Raises DatabaseError when it does not answer."""
    try:
        applied = MigrationRecorder(connection).applied_migrations()
    finally:
        # This thread's own, which nobody else closes.
        connection.close()
    missing = sorted(".".join(name) for name in _newest_migrations() if name not in applied)
    return f"Migrations are missing ({', '.join(missing)}): run `python -m server migrate`." if missing else ""


def storage_problem() -> str:
    """Always "". Raises CrunchError when the storage cannot be opened and listed."""
    check_reachable(open_storage(settings.STORAGES["default"], timeout_s=TIMEOUT_S))
    return ""


@functools.cache
def _newest_migrations() -> list[tuple[str, str]]:
    return list(MigrationLoader(None).graph.leaf_nodes())


class Part:
    """A part of the server that is asked in a thread of its own, by one thread at a time however many want to know.

    A part that hangs (a share that is away) would otherwise hold one more thread with each question.
    """

    def __init__(self, name: str, ask: Callable[[], str]) -> None:
        self.name = name
        self._ask = ask
        self._lock = Lock()
        self._asked: Future[str] | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=f"crunch-ready-{name}")

    def start(self) -> Future[str]:
        with self._lock:
            if self._asked is None or self._asked.done():
                self._asked = self._thread.submit(self._ask)
            return self._asked

    def problem(self, asked: Future[str]) -> str:
        """What is wrong with the part, or ""."""
        try:
            return asked.result(TIMEOUT_S)
        except TooSlow:
            return f"The {self.name} did not answer within {TIMEOUT_S:g} s."
        except Exception as error:  # noqa: BLE001 - whatever it is, the server is not ready
            _log.warning("not ready, the %s: %s", self.name, error)
            return f"The {self.name} does not answer as it should; the server's log has the reason."


PARTS = (Part("database", database_problem), Part("storage", storage_problem))


def problems() -> Mapping[str, str]:
    """By the name of each part what is wrong with it, or "". Takes TIMEOUT_S for each part at most."""
    asked = [(part, part.start()) for part in PARTS]
    return {part.name: part.problem(answer) for part, answer in asked}


@never_cache
@require_safe
def healthz(_request: HttpRequest) -> JsonResponse:
    """200 while the process answers; asks neither database nor storage, which no restart of it would mend."""
    return JsonResponse({"status": "ok"})


@never_cache
@require_safe
def readyz(_request: HttpRequest) -> JsonResponse:
    """200 when database, migrations and storage are as they should be, else 503; either names each part."""
    found = problems()
    parts = {name: problem or "ok" for name, problem in found.items()}
    ready = not any(found.values())
    return JsonResponse({"status": "ok" if ready else "not ready", **parts}, status=200 if ready else 503)
