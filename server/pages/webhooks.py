"""A project's webhooks, for its managers: add and remove them, see what they answered, send something again."""

from __future__ import annotations

from typing import Any, ClassVar

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils.decorators import method_decorator
from django.views.decorators.cache import never_cache
from django.views.generic import TemplateView

from crunch_tasks.errors import Refused
from server.models import Project, Webhook, WebhookDelivery, WebhookEvent
from server.pages import find
from server.permissions import Act, actor_of
from server.services import webhooks

LAST = 50
"""How many deliveries are shown."""


@method_decorator(never_cache, name="dispatch")
class Webhooks(TemplateView):
    """A POST makes a webhook, or does what the name of its button says. A new secret is shown in the answer alone."""

    template_name = "server/webhooks.html"
    acts: ClassVar = {"get": Act.MANAGE, "post": Act.MANAGE}

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        project = find.project(self.request, kwargs.pop("project"), self.acts["get"])
        return super().get_context_data(
            project=project,
            hooks=project.webhooks.select_related("created_by"),
            deliveries=WebhookDelivery.objects.filter(webhook__project=project).select_related("webhook")[:LAST],
            events=WebhookEvent,
            **kwargs,
        )

    def post(self, request: HttpRequest, project: str) -> HttpResponse:
        found = find.project(request, project, self.acts["post"])
        asked = request.POST
        try:
            if number := asked.get("remove"):
                said = self._remove(found, number)
            elif number := asked.get("stop") or asked.get("start"):
                said = self._set_active(found, number, "start" in asked)
            elif number := asked.get("again"):
                said = self._send_again(found, number)
            else:
                made = self._make(found)
                return render(request, self.template_name, self.get_context_data(project=project, made=made))
            messages.success(request, said)
        except Refused as error:
            messages.error(request, str(error))
        return redirect("crunch:webhooks", project)

    def _make(self, project: Project) -> Webhook:
        asked = self.request.POST
        return webhooks.create(actor_of(self.request), project, asked.get("url", "").strip(), asked.getlist("events"))

    def _remove(self, project: Project, number: str) -> str:
        found = self._hook(project, number)
        webhooks.remove(actor_of(self.request), found)
        return f"{found.url} is told no more."

    def _set_active(self, project: Project, number: str, active: bool) -> str:
        found = self._hook(project, number)
        webhooks.set_active(actor_of(self.request), found, active)
        return f"{found.url} is {'started' if active else 'stopped'}."

    def _send_again(self, project: Project, number: str) -> str:
        rows = WebhookDelivery.objects.filter(webhook__project=project).select_related("webhook__project")
        found = rows.filter(pk=int(number)).first() if _is_number(number) else None
        if found is None:
            raise Refused("There is no such delivery (any more).", 404, "not_found")
        webhooks.send_again(actor_of(self.request), found)
        return f"{found.dataset} {found.event} is sent again. The answer will be told below."

    def _hook(self, project: Project, number: str) -> Webhook:
        found = project.webhooks.filter(pk=int(number)).first() if _is_number(number) else None
        if found is None:
            raise Refused("There is no such webhook (any more).", 404, "not_found")
        return found


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) < 19
