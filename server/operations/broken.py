"""What is answered when something broke on the way: the database does not answer, which passes, or an error of ours."""

from __future__ import annotations

import sys

from django.db import InterfaceError, OperationalError
from django.http import HttpRequest, HttpResponse
from django.views.defaults import server_error

from crunch_tasks.errors import Refused
from server.operations.refusals import answer, api_path

AWAY = "The server's database does not answer as it should. Try again; if it stays, tell who runs this server."
OURS = (
    "Something broke in the server, and nothing that was saved is lost. Try again; if it stays, tell who runs it when "
    "it happened."
)


def broken(request: HttpRequest) -> HttpResponse:
    """The site's handler500, with JSON for programs. Django has logged the error."""
    if _is_away(sys.exc_info()[1]):
        return answer(request, Refused(AWAY, 503, "busy"))
    return server_error(request) if api_path(request) is None else answer(request, Refused(OURS, 500, "error"))


def _is_away(error: BaseException | None) -> bool:
    """Whether it passes by itself. That a table is missing, as before `migrate`, does not: SQLite has no other word."""
    is_wrong = getattr(error and error.__cause__, "sqlite_errorname", "") == "SQLITE_ERROR"
    return isinstance(error, OperationalError | InterfaceError) and not is_wrong
