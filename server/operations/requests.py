"""Every request, as it is answered: its route, who asked, how it went and how long it took."""

from __future__ import annotations

import time
from dataclasses import dataclass

from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.utils.deprecation import MiddlewareMixin

from server.operations import metrics

METHODS = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}


@dataclass(frozen=True)
class Answered:
    """A request that was answered. `route` is the name of its address, "" where there is none (a static file)."""

    method: str
    route: str
    status: int
    seconds: float


class Watch(MiddlewareMixin):
    """Middleware, the first of all: measures each request."""

    def process_request(self, request: HttpRequest) -> None:
        request.META["crunch.began"] = time.monotonic()

    def process_response(self, request: HttpRequest, response: HttpResponseBase) -> HttpResponseBase:
        match = request.resolver_match
        # Anyone can send methods of their own making; they must not become as many lines of the metrics.
        method = request.method if request.method in METHODS else "other"
        seconds = time.monotonic() - request.META["crunch.began"]
        answered = Answered(str(method), match.view_name if match else "", response.status_code, seconds)
        metrics.count_request(answered.method, answered.route, answered.status, answered.seconds)
        return response
