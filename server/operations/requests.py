"""Every request, as it is answered: its route, who asked, how it went and how long it took. A log line, and metrics."""

from __future__ import annotations

import logging
import re
import time
import uuid
from typing import Any

from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.utils.deprecation import MiddlewareMixin
from django.utils.functional import SimpleLazyObject

from server.operations import logs, metrics

METHODS = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}
REQUEST_ID = re.compile(r"[A-Za-z0-9_-]{8,64}")
"""What a reverse proxy's own X-Request-ID must look like to be taken over."""

_log = logging.getLogger(__name__)


class Watch(MiddlewareMixin):
    """Middleware, the first of all: gives each request an id, measures and logs it."""

    def process_request(self, request: HttpRequest) -> None:
        given = request.headers.get("X-Request-ID", "")
        logs.request_id.set(given if REQUEST_ID.fullmatch(given) else uuid.uuid4().hex)
        request.META["crunch.began"] = time.monotonic()

    def process_response(self, request: HttpRequest, response: HttpResponseBase) -> HttpResponseBase:
        match = request.resolver_match
        # A static file has no route.
        route = match.view_name if match else ""
        # Anyone can send methods of their own making; they must not become as many lines of the metrics.
        method = str(request.method) if request.method in METHODS else "other"
        seconds = time.monotonic() - request.META["crunch.began"]
        metrics.count_request(method, route, response.status_code, seconds)
        fields = {
            "route": route,
            "method": method,
            "user": _user_name(request),
            "status": response.status_code,
            "seconds": round(seconds, 4),
        }
        _log.info("%s %s %d", method, route or "-", response.status_code, extra={"fields": fields})
        response.headers["X-Request-ID"] = logs.request_id.get()
        return response


def _user_name(request: HttpRequest) -> str:
    """Who asked, as far as the view wanted to know: to look it up now would cost a query."""
    user: Any = getattr(request, "user", None)
    if isinstance(user, SimpleLazyObject):
        user = getattr(request, "_cached_user", None)
    return user.get_username() if user is not None else ""
