"""What is answered to a request that no view gets to see: JSON for programs, a page for people."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse, JsonResponse
from django.template.loader import render_to_string
from django.urls import reverse

from crunch_tasks.errors import Refused

RETRY_AFTER_S = 5
"""How soon whoever was told to try again (503) may do so, in seconds."""


def api_path(request: HttpRequest) -> str | None:
    """The path below that of the API, wherever a site has it; None for all else."""
    root = reverse("crunch:api:claims").removesuffix("claims/")
    return request.path.removeprefix(root) if request.path.startswith(root) else None


def answer(request: HttpRequest, refusal: Refused) -> HttpResponse:
    headers = {"Retry-After": str(RETRY_AFTER_S)} if refusal.status == 503 else None
    # No form is sent as plain bytes: it is the script that sends files.
    if api_path(request) is not None or request.content_type == "application/octet-stream":
        # As everywhere in the API, the answer to a GET has no code.
        code = {} if request.method in ("GET", "HEAD") else {"code": refusal.code}
        return JsonResponse({"detail": str(refusal), **code}, status=refusal.status, headers=headers)
    # Without the request: to know who sent it, the database would be asked.
    page = render_to_string("server/refused.html", {"refusal": refusal})
    return HttpResponse(page, status=refusal.status, headers=headers)
