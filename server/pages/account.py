"""The visitor's own account: the tokens that their clients sign in with. Nobody else is shown them here."""

from __future__ import annotations

import datetime as dt
from typing import Any, ClassVar

from django.contrib import messages
from django.contrib.auth.mixins import LoginRequiredMixin
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils import timezone
from django.utils.decorators import method_decorator
from django.views.decorators.cache import never_cache
from django.views.generic import TemplateView
from rest_framework.authtoken.models import Token

from crunch_tasks.errors import Refused
from server.models import AccessToken, Role
from server.pages.actions import signed_in
from server.permissions import Act, actor_of
from server.services import tokens

LIFETIMES = {"30": "in 30 days", "90": "in 90 days", "365": "in a year", "": "never"}


@method_decorator(never_cache, name="dispatch")
class Account(LoginRequiredMixin, TemplateView):
    """Lists the tokens; a POST makes one or, with `end`, ends one. A new key is shown in the answer alone."""

    template_name = "server/account.html"
    acts: ClassVar = {"get": Act.OWN_TOKENS, "post": Act.OWN_TOKENS}

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        user = signed_in(self.request)
        return super().get_context_data(
            address=self.request.build_absolute_uri(reverse("crunch:projects")).rstrip("/"),
            tokens=AccessToken.objects.filter(user=user).select_related("project"),
            plain=Token.objects.filter(user=user).first(),
            projects=actor_of(self.request).projects(Act.SEE_MACHINES).order_by("name")[:500],
            roles=Role,
            lifetimes=LIFETIMES,
            **kwargs,
        )

    def post(self, request: HttpRequest) -> HttpResponse:
        try:
            if "end" in request.POST:
                return self._end(request.POST["end"])
            made, key = self._make()
        except Refused as error:
            messages.error(request, str(error))
            return redirect("crunch:account")
        return render(request, self.template_name, self.get_context_data(made=made, key=key))

    def _make(self) -> tuple[AccessToken, str]:
        asked, actor = self.request.POST, actor_of(self.request)
        name, role, days = asked.get("name", "").strip(), asked.get("role", ""), asked.get("days", "")
        if not name or len(name) > 100 or "\x00" in name:
            raise Refused("Give the token a name, such as that of the machine it is for.")
        if role not in Role.values or days not in LIFETIMES:
            raise Refused("Choose a role and a life time from the lists.")
        project = None
        if slug := asked.get("project", ""):
            visible = actor.projects(Act.SEE_MACHINES)
            project = None if "\x00" in slug else visible.filter(slug=slug).first()
            if project is None:
                raise Refused("There is no such project (any more).")
        expires = timezone.now() + dt.timedelta(days=int(days)) if days else None
        return tokens.create(actor, name, role=Role(role), project=project, expires=expires)

    def _end(self, number: str) -> HttpResponse:
        own = AccessToken.objects.filter(user=signed_in(self.request))
        found = own.filter(pk=int(number)).first() if number.isascii() and number.isdigit() else None
        if found is None:
            raise Refused("There is no such token (any more).")
        tokens.end(actor_of(self.request), found)
        messages.success(self.request, f"The token {found.name} is ended: it is refused from now on.")
        return redirect("crunch:account")
