"""What is answered to a request that no view gets to see: JSON for programs, a line of text for people."""

from __future__ import annotations

from collections.abc import Mapping

from django.http import HttpRequest, HttpResponse, JsonResponse

from crunch_tasks.errors import Refused


def is_api(request: HttpRequest) -> bool:
    return request.path.startswith("/api/")


def answer(request: HttpRequest, refusal: Refused, headers: Mapping[str, str] | None = None) -> HttpResponse:
    # No form is sent as plain bytes: it is the script that sends files.
    if is_api(request) or request.content_type == "application/octet-stream":
        told = {"detail": str(refusal), "code": refusal.code}
        return JsonResponse(told, status=refusal.status, headers=headers)
    return HttpResponse(str(refusal), status=refusal.status, content_type="text/plain; charset=utf-8", headers=headers)
