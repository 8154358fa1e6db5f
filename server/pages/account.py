"""The visitor's own account: the token that their clients sign in with. Nobody else is shown it here."""

from __future__ import annotations

from typing import Any

from django.contrib.auth.mixins import LoginRequiredMixin
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse
from django.utils.decorators import method_decorator
from django.views.decorators.cache import never_cache
from django.views.generic import TemplateView
from rest_framework.authtoken.models import Token


@method_decorator(never_cache, name="dispatch")
class Account(LoginRequiredMixin, TemplateView):
    template_name = "server/account.html"

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        address = self.request.build_absolute_uri(reverse("crunch:projects")).rstrip("/")
        token = Token.objects.filter(user=self.request.user.pk).first()
        return super().get_context_data(address=address, token=token, **kwargs)

    def post(self, request: HttpRequest) -> HttpResponse:
        if request.user.is_authenticated:
            Token.objects.get_or_create(user=request.user)
        return redirect("crunch:account")
