"""What all pages with a form do: show it, say what is wrong beside its fields, save, and go where that can be seen."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import messages
from django.core.exceptions import NON_FIELD_ERRORS, ObjectDoesNotExist, PermissionDenied, ValidationError
from django.db import transaction
from django.http import Http404, HttpRequest, HttpResponse, QueryDict
from django.shortcuts import redirect
from django.urls import reverse
from django.views.generic import TemplateView

from server.models import Attribute, Dataset, Item, Project
from server.pages import find, markdown, meanwhile
from server.permissions import Act, actor_of

PREVIEW = "preview"
"""The button that shows the Markdown as it will look, and saves nothing."""

Link = tuple[str, str]
At = dict[str, str]
"""The parts of an address, by name."""


class FormPage(TemplateView):
    """A page with one form. What it is about is found in `begin`, which for a POST is in the transaction that saves."""

    template_name = "server/form.html"
    title = ""
    button = "Save"
    project: Project | None = None
    trail: list[Link]

    def begin(self, at: At) -> None:
        """Find what the address names. Raises Http404 and PermissionDenied."""
        raise NotImplementedError

    def form(self, data: QueryDict | None) -> forms.BaseForm:
        raise NotImplementedError

    def save(self, form: Any) -> Item:
        """Save what a valid form has; returns what to look at then. Raises ValidationError."""
        raise NotImplementedError

    def get(self, request: HttpRequest, *_: Any, **kwargs: Any) -> HttpResponse:  # noqa: ARG002
        self.begin(kwargs)
        return self._show(self.form(None))

    def post(self, request: HttpRequest, **kwargs: Any) -> HttpResponse:
        with transaction.atomic():
            self.begin(kwargs)
            form, theirs = self._merged(request.POST)
            if theirs is None and PREVIEW not in request.POST and form.is_valid():
                try:
                    with transaction.atomic():
                        saved = self.save(form)
                    messages.success(request, f"{saved.name} is saved.")
                    return redirect(address(saved))
                except ValidationError as error:
                    _add(form, error)
        return self._show(form, theirs)

    def _merged(self, data: QueryDict) -> tuple[forms.BaseForm, dict[str, str] | None]:
        form = self.form(data)
        merged = meanwhile.merge(form, data)
        return (form, None) if merged is None else (self.form(merged.data), merged.theirs)

    def _show(self, form: forms.BaseForm, theirs: dict[str, str] | None = None) -> HttpResponse:
        preview = markdown.render(form.data.get("details", "")) if PREVIEW in form.data else None
        return self.render_to_response(
            self.get_context_data(
                form=form,
                title=self.title,
                button=self.button,
                trail=self.trail,
                back=self.trail[-1][0],
                seen=meanwhile.seen(form),
                theirs=theirs,
                preview=preview,
            )
        )


def lock(project: Project | None, node: Item | Attribute | None = None) -> None:
    """For a form that is sent: let those who save things of this project wait for one another, and read it again.

    Raises Http404 when it was deleted meanwhile.
    """
    if project is None or not transaction.get_connection().in_atomic_block:
        return
    Project.objects.select_for_update(of=("self",)).filter(pk=project.pk).first()
    try:
        for row in (project, node):
            if row is not None:
                row.refresh_from_db()
    except ObjectDoesNotExist:
        raise Http404 from None


def refusal(request: HttpRequest, act: Act, project: Project | None) -> str:
    """Why the visitor may not do this; "" when they may."""
    try:
        actor_of(request).require(act, project)
    except PermissionDenied as error:
        return str(error)
    return ""


def address(node: Item) -> str:
    """The page that shows the node."""
    if isinstance(node, Project):
        return reverse("crunch:project", args=[node.slug])
    if isinstance(node, Dataset):
        return reverse("crunch:dataset", args=[node.project.slug, node.slug])
    return reverse("crunch:item", args=[node.slug])


def trail(place: find.Place) -> list[Link]:
    """The addresses and names of what an item is in, the outermost first, and of the item itself."""
    nodes = [place.project, place.dataset, *place.above, place.item]
    links = {node.slug: (address(node), node.name) for node in reversed(nodes) if node is not None}
    return [(reverse("crunch:projects"), "Projects"), *reversed(links.values())]


def _add(form: forms.BaseForm, error: ValidationError) -> None:
    told = error.message_dict if hasattr(error, "error_dict") else {NON_FIELD_ERRORS: error.messages}
    for name, sentences in told.items():
        form.add_error(name if name in form.fields else None, sentences)
