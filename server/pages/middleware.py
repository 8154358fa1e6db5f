"""What is done to every answer: browsers are told where its parts may come from, and unseen characters are shown."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.utils.deprecation import MiddlewareMixin

from server.pages.visible import visible


def policy(connect: str = "") -> str:
    """Only this site's own files; no inline script or style, so text that slipped through as HTML can do nothing.

    `connect` is one more origin that the page's script may talk to, if any.
    """
    parts = (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' data:",
        "font-src 'self'",
        f"connect-src 'self' {connect}".rstrip(),
        "form-action 'self'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
    )
    return "; ".join(parts)


POLICY = policy()


class ContentSecurityPolicy(MiddlewareMixin):
    """Middleware: sends POLICY with each answer that has no policy of its own."""

    def process_response(self, _request: HttpRequest, response: HttpResponseBase) -> HttpResponseBase:
        response.headers.setdefault("Content-Security-Policy", POLICY)
        return response


class UnseenCharacters(MiddlewareMixin):
    """Middleware: shows characters of HTML that would not be seen; what is no HTML, such as a file, stays as it is."""

    def process_response(self, _request: HttpRequest, response: HttpResponseBase) -> HttpResponseBase:
        if isinstance(response, HttpResponse) and response.headers.get("Content-Type", "").startswith("text/html"):
            response.content = visible(response.content.decode(response.charset))
        return response
