"""What the buttons do: each is a POST that asks the services, says how it went, and goes back to the page."""

from __future__ import annotations

from typing import ClassVar, cast

from django.contrib import messages
from django.contrib.auth.models import User
from django.db import transaction
from django.http import HttpRequest, HttpResponseRedirect
from django.shortcuts import redirect
from django.views.generic import View

from crunch_tasks.errors import Refused
from server.models import Dataset
from server.pages import find
from server.pages.datasets import may_cancel
from server.permissions import Act, actor_of
from server.services import audit
from server.services import datasets as services


class DatasetAction(View):
    """Finds the dataset, checks the right to change it, and tells the visitor the outcome."""

    http_method_names = ["post"]
    acts: ClassVar = {"post": Act.STEER}
    name = ""
    """What the audit trail calls it."""

    def post(self, request: HttpRequest, project: str, dataset: str) -> HttpResponseRedirect:
        found = find.dataset(request, project, dataset, self.acts["post"])
        try:
            with transaction.atomic():
                said = self.act(signed_in(request), found)
                audit.note(actor_of(request), self.name, found.slug, found.project)
            messages.success(request, said)
        except Refused as error:
            messages.error(request, str(error))
        return redirect("crunch:dataset", project, dataset)

    def act(self, _user: User, dataset: Dataset) -> str:
        """Do it and say what was done. Raises Refused when it cannot be."""
        raise NotImplementedError


class Cancel(DatasetAction):
    name = "cancel"

    def act(self, user: User, dataset: Dataset) -> str:
        if not may_cancel(dataset):
            raise Refused(services.NO_RUN, 409)
        claim = services.cancel(user, dataset)
        if claim.ended is not None:
            return "The run is cancelled. Its client had not been heard of for too long."
        return "The run's client is told to stop with its next heartbeat."


class Retry(DatasetAction):
    name = "retry"

    def act(self, _user: User, dataset: Dataset) -> str:
        fence = self.request.POST.get("fence", "")
        done = services.retry(
            dataset.pk,
            take_files="take_files" in self.request.POST,
            # What the visitor saw and decided by may have changed since the page was made.
            fence=int(fence) if fence.isascii() and fence.isdigit() else None,
        )
        again = "unprocessed again. Its history stays" if done.count else "unprocessed already"
        return f"The dataset is {again}.{' It is held: let it go to have it processed.' if done.held else ''}"


class Hold(DatasetAction):
    name = "hold"

    def act(self, _user: User, dataset: Dataset) -> str:
        services.set_hold(dataset.pk, True)
        return "The dataset is held: nobody claims it until it is let go."


class LetGo(DatasetAction):
    name = "let go"

    def act(self, _user: User, dataset: Dataset) -> str:
        services.set_hold(dataset.pk, False)
        return "The dataset is let go."


class Pause(View):
    """Let nobody claim the project's datasets; those that are being processed go on to their end."""

    http_method_names = ["post"]
    acts: ClassVar = {"post": Act.STEER}
    paused = True

    def post(self, request: HttpRequest, project: str) -> HttpResponseRedirect:
        found = find.project(request, project, self.acts["post"])
        with transaction.atomic():
            services.set_pause(found, self.paused)
            audit.note(actor_of(request), "pause" if self.paused else "resume", found.slug, found)
        messages.success(request, f"The project {'is paused: nothing new is claimed' if self.paused else 'goes on'}.")
        return redirect("crunch:project", project)


class Resume(Pause):
    paused = False


def signed_in(request: HttpRequest) -> User:
    """The visitor, of whom `find` has found that they may do what needs a role."""
    return cast("User", request.user)
