"""Every route of the app with the act that it is: what `docs/permissions.md` lists, and the tests walk."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, NamedTuple

from django.contrib.admindocs.views import simplify_regex
from django.urls import URLPattern, URLResolver

from server import urls
from server.permissions import Act


class Route(NamedTuple):
    method: str
    path: str
    act: Act


METHODS = ("get", "post", "put", "patch", "delete")


def routes() -> list[Route]:
    """All of them, in the order in which they are looked for. Raises KeyError for a view that names no act."""
    return [
        Route(method.upper(), "/" + re.sub(r"<\w+:", "<", simplify_regex(path)).lstrip("/"), act)
        for path, pattern in _patterns(urls.urlpatterns, "")
        # What is not there has an answer too, and is no route.
        if pattern.name not in ("nothing-here", "schema")
        for method, act in _acts(pattern.callback)
    ]


def _patterns(found: list[Any], before: str) -> Iterator[tuple[str, URLPattern]]:
    for entry in found:
        path = before + str(entry.pattern)
        if isinstance(entry, URLResolver):
            yield from _patterns(entry.url_patterns, path)
        elif "format" not in path:
            yield path, entry


def _acts(callback: Any) -> Iterator[tuple[str, Act]]:
    view = getattr(callback, "cls", None) or getattr(callback, "view_class", None)
    if view is None:
        # What a load balancer asks is a function, and open.
        yield "get", Act.VISIT
        return
    actions = getattr(callback, "actions", None)
    if actions is not None:
        yield from ((method, view.acts[action]) for method, action in actions.items() if method in METHODS)
    else:
        yield from ((method, view.acts[method]) for method in METHODS if _answers(view, method))


def _answers(view: Any, method: str) -> bool:
    return method in view.http_method_names and hasattr(view, method)
