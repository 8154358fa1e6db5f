"""What is answered when something broke on the way: the database does not answer, which passes, or an error of ours."""

from __future__ import annotations

import sys

from django.db import InterfaceError, OperationalError
from django.http import HttpRequest, HttpResponse
from django.views.defaults import server_error

from crunch_tasks.errors import Refused
from server.operations.refusals import answer, is_api

RETRY_AFTER_S = 5

AWAY = "The server's database does not answer. Try again; if it stays, tell who runs this server."
OURS = (
    "Something broke in the server, and nothing that was saved is lost. Try again; if it stays, tell who runs it when "
    "it happened."
)


def broken(request: HttpRequest) -> HttpResponse:
    """The site's handler500, with JSON for programs. Django has logged the error."""
    if isinstance(sys.exc_info()[1], OperationalError | InterfaceError):
        return answer(request, Refused(AWAY, 503, "busy"), {"Retry-After": str(RETRY_AFTER_S)})
    return answer(request, Refused(OURS, 500, "error")) if is_api(request) else server_error(request)
