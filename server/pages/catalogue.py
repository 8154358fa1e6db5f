"""The pages that make and edit projects, datasets and items."""

from __future__ import annotations

import copy
from typing import Any, ClassVar

from django.contrib.auth.mixins import LoginRequiredMixin
from django.http import QueryDict
from django.urls import reverse

from server.models import Dataset, Item, Project
from server.pages import find, meanwhile
from server.pages.actions import signed_in
from server.pages.editing import At, FormPage, lock, refusal, trail
from server.pages.forms import DatasetForm, ItemForm, NodeForm, ProjectForm
from server.permissions import CHANGES_OF, Act, actor_of
from server.services import audit, catalogue, edits

NAME_STAYS = "It stays: the address is made from it."


class NewPage(FormPage):
    """Makes a node from all fields of a form."""

    button = "Create"
    form_class: type[NodeForm]

    def form(self, data: QueryDict | None) -> NodeForm:
        return self.form_class(data)

    def save(self, form: NodeForm) -> Item:
        made = self.create(form.cleaned_data)
        project = made if isinstance(made, Project) else self.project
        audit.note(actor_of(self.request), "create", made.slug, project, after=form.cleaned_data)
        return made

    def create(self, values: dict[str, Any]) -> Item:
        raise NotImplementedError


class NewProject(LoginRequiredMixin, NewPage):
    title = "New project"
    form_class = ProjectForm
    acts: ClassVar = {"get": Act.CREATE_PROJECT, "post": Act.CREATE_PROJECT}

    def begin(self, _at: At) -> None:
        actor_of(self.request).require(Act.CREATE_PROJECT)
        self.trail = [(reverse("crunch:projects"), "Projects")]

    def create(self, values: dict[str, Any]) -> Project:
        return catalogue.create_project(signed_in(self.request), **values)


class NewDataset(NewPage):
    title = "New dataset"
    form_class = DatasetForm
    acts: ClassVar = {"get": Act.EDIT, "post": Act.EDIT}
    project: Project

    def begin(self, at: At) -> None:
        self.project = find.project(self.request, at["project"], Act.EDIT)
        self.trail = trail(find.place(self.project))

    def create(self, values: dict[str, Any]) -> Dataset:
        return catalogue.create_dataset(self.project, **values)


class NewItem(NewPage):
    """An item below a project, a dataset or another item."""

    title = "New item"
    form_class = ItemForm
    acts: ClassVar = {"get": Act.EDIT, "post": Act.EDIT}

    def begin(self, at: At) -> None:
        place = find.item(self.request, at["item"], Act.EDIT)
        self.project, self.parent, self.trail = place.project, place.item, trail(place)

    def create(self, values: dict[str, Any]) -> Item:
        return catalogue.create_item(self.parent, **values)


class EditPage(FormPage):
    """Changes those fields of a node in which something else was sent than is stored."""

    form_class: type[NodeForm]
    node: Item

    def place(self, at: At) -> find.Place:
        """What the address names. Raises Http404 and PermissionDenied."""
        raise NotImplementedError

    def begin(self, at: At) -> None:
        place = self.place(at)
        self.node, self.project = place.item, place.project
        lock(self.project, self.node)
        self.trail = trail(place)

    def form(self, data: QueryDict | None) -> NodeForm:
        # A model form writes into the row that it is given, also what it refuses.
        return self.form_class(data, instance=copy.copy(self.node), denied=self.denied())

    def denied(self) -> dict[str, str]:
        """The fields that this visitor may not change, with the reasons."""
        return {"name": NAME_STAYS}

    def save(self, form: NodeForm) -> Item:
        values = {name: form.cleaned_data[name] for name in meanwhile.changed(form)}
        if not values:
            return self.node
        actor = actor_of(self.request)
        if isinstance(self.node, Project):
            edits.require_changes(actor, self.node, values)
        before = {name: getattr(self.node, name) for name in values}
        edits.save_changes(self.node, signed_in(self.request), values)
        after = {name: getattr(self.node, name) for name in values}
        audit.note(actor, "edit", self.node.slug, self.project, before, after)
        return self.node


class EditProject(EditPage):
    title = "Edit project"
    form_class = ProjectForm
    acts: ClassVar = {"get": Act.EDIT, "post": Act.EDIT}

    def place(self, at: At) -> find.Place:
        return find.place(find.project(self.request, at["project"], Act.EDIT))

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        may_delete = actor_of(self.request).may(Act.MANAGE, self.project)
        delete = reverse("crunch:delete-project", args=[self.node.slug]) if may_delete else ""
        return super().get_context_data(delete=delete, **kwargs)

    def denied(self) -> dict[str, str]:
        reasons = {name: refusal(self.request, act, self.project) for name, act in CHANGES_OF[Project].items()}
        fields = ProjectForm.base_fields
        return super().denied() | {name: reason for name, reason in reasons.items() if reason and name in fields}


class EditDataset(EditPage):
    title = "Edit dataset"
    form_class = DatasetForm
    acts: ClassVar = {"get": Act.EDIT, "post": Act.EDIT}

    def place(self, at: At) -> find.Place:
        return find.place(find.dataset(self.request, at["project"], at["dataset"], Act.EDIT))


class EditItem(EditPage):
    title = "Edit item"
    form_class = ItemForm
    acts: ClassVar = {"get": Act.EDIT, "post": Act.EDIT}

    def place(self, at: At) -> find.Place:
        return find.plain_item(self.request, at["item"], Act.EDIT)
