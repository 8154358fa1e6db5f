"""Signing in, slowed down: after LIMIT failures within WINDOW for a name, or from an address, 429 until some are older.

In the database, so that it holds for all processes of a server. An attempt is written down before the password is
looked at and forgotten when it was right, so that many attempts at once find one another.
"""

from __future__ import annotations

import datetime as dt
import ipaddress
import math
import unicodedata
from collections.abc import Callable
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils import timezone
from django.utils.crypto import salted_hmac
from django.utils.deprecation import MiddlewareMixin

from server.models import SignInAttempt
from server.models.sign_in import WINDOW

LIMIT = 10
ROUTES = {"login", "admin:login"}
"""The names of the addresses at which people sign in."""

OWN = "crunch.sign_in"
"""Where a request's META has its own attempts."""


class SlowDown(MiddlewareMixin):
    """Middleware, after the sessions' and the CSRF one: refuses an attempt to sign in after too many."""

    def process_view(
        self, request: HttpRequest, _view: Callable[..., Any], _args: Any, _kwargs: Any
    ) -> HttpResponse | None:
        if request.method != "POST" or request.resolver_match is None or request.resolver_match.view_name not in ROUTES:
            return None
        own = [SignInAttempt(who=who) for who in _who(request)]
        SignInAttempt.objects.filter(at__lt=timezone.now() - WINDOW).delete()
        request.META[OWN] = [row.pk for row in SignInAttempt.objects.bulk_create(own)]
        wait = max((_wait(row) for row in own), default=dt.timedelta())
        if not wait:
            return None
        # What is refused is no attempt: otherwise the wait would never end for somebody who tries on.
        SignInAttempt.objects.filter(pk__in=request.META[OWN]).delete()
        minutes = math.ceil(wait / dt.timedelta(minutes=1))
        response = render(request, "server/sign_in_later.html", {"minutes": minutes}, status=429)
        response.headers["Retry-After"] = str(math.ceil(wait.total_seconds()))
        return response


def forget(request: HttpRequest | None = None, **_: Any) -> None:
    """Somebody signed in: that was no failure, and the name's earlier ones are forgiven (not the address's)."""
    own = request.META.get(OWN) if request is not None else None
    if own:
        mine = SignInAttempt.objects.filter(pk__in=own)
        name = _key("name", _name(request)) if request is not None else ""
        (mine | SignInAttempt.objects.filter(who=name)).delete()


def _wait(own: SignInAttempt) -> dt.timedelta:
    """How long until fewer than LIMIT other attempts of the same count; zero when it is so already."""
    others = SignInAttempt.objects.filter(who=own.who, at__gt=own.at - WINDOW).exclude(pk=own.pk)
    times = list(others.order_by("-at").values_list("at", flat=True)[:LIMIT])
    return times[-1] + WINDOW - own.at if len(times) == LIMIT else dt.timedelta()


def _who(request: HttpRequest) -> list[str]:
    found = [("name", _name(request)), ("address", _network(request.META.get("REMOTE_ADDR", "")))]
    return [_key(kind, value) for kind, value in found if value]


def _key(kind: str, value: str) -> str:
    return salted_hmac(f"crunch.sign-in.{kind}", value, algorithm="sha256").hexdigest()


def _name(request: HttpRequest) -> str:
    """The user name as Django's form will take it, capitals and small letters alike."""
    return unicodedata.normalize("NFKC", request.POST.get("username", "")).strip().casefold()


def _network(address: str) -> str:
    """Whom an address stands for, "" when unknown: one of version 6 for its /64, which one machine may have whole.

    One of this machine is that of a proxy that does not say for whom it asks: it would be everybody.
    """
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return ""
    if found.is_loopback:
        return ""
    return str(ipaddress.ip_network((found, 64), strict=False) if found.version == 6 else found)
