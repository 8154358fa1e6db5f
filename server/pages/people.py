"""A project's members: who they are and, for a manager, letting people in, changing their roles, seeing them out."""

from __future__ import annotations

from typing import Any, ClassVar

from django.contrib import messages
from django.contrib.auth.models import User
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.views.generic import TemplateView

from crunch_tasks.errors import Refused
from server.models import Project, Role
from server.pages import find
from server.pages.allowed import allowed
from server.permissions import Act, actor_of
from server.services import members


class Members(TemplateView):
    template_name = "server/members.html"
    acts: ClassVar = {"get": Act.SEE_MACHINES, "post": Act.MANAGE}

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        project = find.project(self.request, kwargs.pop("project"), self.acts["get"])
        return super().get_context_data(
            project=project,
            members=project.memberships.select_related("user").order_by("user__username"),
            roles=Role,
            **allowed(self.request, project),
            **kwargs,
        )

    def post(self, request: HttpRequest, project: str) -> HttpResponse:
        found = find.project(request, project, self.acts["post"])
        try:
            user = members.person(request.POST.get("user", "").strip())
            said = self._remove(found, user) if "remove" in request.POST else self._set(found, user)
            messages.success(request, said)
        except Refused as error:
            messages.error(request, str(error))
        return redirect("crunch:members", project)

    def _set(self, project: Project, user: User) -> str:
        role = self.request.POST.get("role", "")
        if role not in Role.values:
            raise Refused(f"There is no role {role!r}.")
        edits_workflow = "edits_workflow" in self.request.POST
        members.set_member(actor_of(self.request), project, user, Role(role), edits_workflow=edits_workflow)
        return f"{user.get_username()} is {role} now."

    def _remove(self, project: Project, user: User) -> str:
        members.remove_member(actor_of(self.request), project, user)
        return f"{user.get_username()} is no member any more."
