"""Which bodies of requests an ASGI server takes in, decided before it does.

Django writes a body to the temporary folder, whole, and only then looks for the view: anyone could fill the disk. It
does so in the event loop, where slow senders hold none of the turns of `AtOnce`; that stays as it is. Before it:

| the body has                                                       | it is                                     |
|--------------------------------------------------------------------|-------------------------------------------|
| as many bytes as all views take (DATA_UPLOAD_MAX_MEMORY_SIZE)      | read                                      |
| more, for a view that takes them (`most_bytes`), of a project that | read                                      |
| who sends it may edit                                              |                                           |
| more, for such a view, of anybody else, or more than even it takes | left: the view refuses it without reading |
| more, for any other view, or without having announced its length   | left: 413                                 |
| no room in the temporary folder                                    | left where there was no more: 507         |
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO
from typing import Any, NamedTuple

from asgiref.sync import sync_to_async
from django.conf import settings
from django.contrib.auth import get_user
from django.contrib.sessions.middleware import SessionMiddleware
from django.core.handlers.asgi import ASGIHandler
from django.db import DatabaseError
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.urls import Resolver404, resolve
from rest_framework.exceptions import AuthenticationFailed
from rest_framework.request import Request

from crunch_tasks.errors import Refused
from server.api.base import Tokens
from server.limits import no_room, too_large
from server.models import Project
from server.operations.at_once import close_connections
from server.operations.broken import AWAY
from server.operations.refusals import answer
from server.permissions import Act, Actor
from server.services.uploads import whole_number

LOOKING_AT_ONCE = 1
"""So many connections to the database a process has for looking who sends a large body, besides those of `AtOnce`."""

LEFT = "crunch.left"
"""In the scope of a request whose body was not read to its end: what was wrong, or None when the view will say it."""


@dataclass
class Body:
    """A request's body on its way in. Raises Refused for the part that is beyond what is taken."""

    scope: Any
    receive: Callable[[], Any]
    size: int = 0

    @property
    def announced(self) -> int | None:
        """How many bytes it has, if its sender said so; the server holds them to it."""
        lengths = [value for name, value in self.scope["headers"] if name == b"content-length"]
        return whole_number(lengths[0].decode("latin1")) if lengths else None

    async def __call__(self) -> Any:
        message = await self.receive()
        self.size += len(message.get("body", b""))
        if self.size > settings.DATA_UPLOAD_MAX_MEMORY_SIZE and self.announced is None:
            raise too_large(settings.DATA_UPLOAD_MAX_MEMORY_SIZE, announced=False)
        return message


class Bounded(ASGIHandler):
    """Takes in what the table above says. Of what is left, the request has an empty body and LEFT in its scope."""

    def __init__(self) -> None:
        super().__init__()
        self.looking = asyncio.Semaphore(LOOKING_AT_ONCE)

    async def handle(self, scope: Any, receive: Any, send: Any) -> None:
        await super().handle(scope, Body(scope, receive), send)

    async def read_body(self, receive: Any) -> Any:
        body: Body = receive
        try:
            if await self._is_taken(body):
                return await super().read_body(body)
            body.scope[LEFT] = None
        except Refused as refusal:
            body.scope[LEFT] = refusal
        except OSError as error:
            body.scope[LEFT] = no_room(error)
        return BytesIO()

    async def _is_taken(self, body: Body) -> bool:
        """Whether to read the body; if not, the view will say why. Raises Refused when no view is to be asked."""
        size, most = body.announced, settings.DATA_UPLOAD_MAX_MEMORY_SIZE
        if size is None or size <= most:
            return True
        request, _ = self.create_request(body.scope, BytesIO())
        view = _view(request.path_info) if request else None
        if request is None or view is None:
            raise too_large(most)
        if size > view.most_bytes:
            return False
        async with self.looking:
            return await sync_to_async(may_edit)(request, view)

    async def listen_for_disconnect(self, receive: Any) -> None:
        if LEFT in receive.scope:
            # What comes next is the body. This waits, until the answer is sent and it is cancelled.
            await asyncio.get_running_loop().create_future()
        await super().listen_for_disconnect(receive)


class _View(NamedTuple):
    """A view that takes large bodies: how large, the slug of the project in which it edits something, and whether it is
    of the API, which heeds a token before a session; pages heed none.
    """

    most_bytes: int
    project: str
    heeds_tokens: bool


def _view(path: str) -> _View | None:
    """The view at this address, if it says itself how long a body it takes."""
    try:
        match = resolve(path)
    except Resolver404:
        return None
    # The REST framework's word for a view's class, and Django's.
    called = getattr(match.func, "cls", None)
    found = called or getattr(match.func, "view_class", None)
    most: int | None = getattr(found, "most_bytes", None)
    # Of a page, or of a call that names a project or a dataset, whose slug begins with its project's.
    named = match.kwargs.get("project") or match.kwargs.get("slug", "")
    return None if most is None else _View(most, named.partition(":")[0], called is not None)


def may_edit(request: HttpRequest, view: _View) -> bool:
    """Whether who sent this may edit the view's project. Raises Refused when the database does not answer."""
    try:
        SessionMiddleware(_no_view).process_request(request)
        found = Tokens().authenticate(Request(request)) if view.heeds_tokens else None
        user, token = found or (get_user(request), None)
        # PostgreSQL refuses to look for a NUL.
        project = None if "\x00" in view.project else Project.objects.filter(slug=view.project).first()
        return project is not None and Actor(user, token).may(Act.EDIT, project)
    except AuthenticationFailed:
        return False
    except DatabaseError:
        raise Refused(AWAY, 503, "busy") from None
    finally:
        close_connections()


def _no_view(_request: HttpRequest) -> HttpResponse:
    raise NotImplementedError


class LeftBodies:
    """Middleware, to stand before all that asks the database: answers for a body that was left, and hangs up."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        # Under WSGI there is no scope: a view reads the body itself.
        scope = getattr(request, "scope", {})
        refusal = scope.get(LEFT)
        response = answer(request, refusal) if refusal else self.get_response(request)
        if LEFT in scope:
            # Else the server would go on to read it, for the next request.
            response.headers["Connection"] = "close"
        return response
