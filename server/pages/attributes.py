"""The pages that make, edit and delete an attribute: one form for each kind, made from `server.kinds`."""

from __future__ import annotations

from typing import Any, ClassVar

from django.http import Http404, QueryDict
from django.shortcuts import get_object_or_404

from crunch_tasks.contract import ATTRIBUTE_KINDS
from server.kinds import KINDS
from server.models import Attribute, Item
from server.pages import find, meanwhile
from server.pages.editing import At, FormPage, lock, trail
from server.pages.forms import AttributeForm, as_text
from server.permissions import Act, actor_of
from server.services import audit, edits

FIRST_KIND = "char"


class AttributePage(FormPage):
    """A form for an attribute of an item of any kind: a project or a dataset too."""

    template_name = "server/attribute_form.html"
    acts: ClassVar = {"get": Act.EDIT, "post": Act.EDIT}
    attribute: Attribute

    def begin(self, at: At) -> None:
        place = find.item(self.request, at["item"], Act.EDIT)
        self.project, self.trail = place.project, trail(place)
        # Of a project or dataset as such, and not as the item that it is too, the address is known.
        self.item = next(
            (node for node in (place.project, place.dataset) if node and node.pk == place.item.pk), place.item
        )
        self.attribute = self.found(at)

    def found(self, at: At) -> Attribute:
        """The attribute that the form is for. Raises Http404."""
        raise NotImplementedError

    def form(self, data: QueryDict | None) -> AttributeForm:
        return AttributeForm(data, attribute=self.attribute)

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        return super().get_context_data(attribute=self.attribute, item=self.item, kinds=ATTRIBUTE_KINDS, **kwargs)

    def save(self, form: AttributeForm) -> Item:
        attribute, columns = self.attribute, KINDS[self.attribute.kind].columns
        is_new = attribute.pk is None
        before = None if is_new else _texts(attribute)
        values = {name: form.cleaned_data[name] for name in (form.fields if is_new else meanwhile.changed(form))}
        for name, value in values.items():
            setattr(attribute, columns.get(name, name), value)
        if values:
            attribute.save()
            act = "create" if is_new else "edit"
            audit.note(actor_of(self.request), act, edits.name_of(attribute), self.project, before, _texts(attribute))
        return self.item


class NewAttribute(AttributePage):
    """`?kind=` chooses the kind."""

    title = "New attribute"
    button = "Add"

    def found(self, at: At) -> Attribute:  # noqa: ARG002
        kind = self.request.GET.get("kind", FIRST_KIND)
        if kind not in KINDS:
            raise Http404
        return Attribute(item_id=self.item.pk, kind=kind)


class EditAttribute(AttributePage):
    title = "Edit attribute"

    def found(self, at: At) -> Attribute:
        lock(self.project)
        return get_object_or_404(Attribute.objects.select_related("item"), item=self.item.pk, pk=at["pk"])


def _texts(attribute: Attribute) -> dict[str, str]:
    return {"key": attribute.key, **{part: as_text(value) for part, value in attribute.values.items()}}
