"""The forms in which people make and edit projects, datasets, items and their attributes.

What a form refuses is what the API refuses: the models' own rules, those of `server.kinds`, and the services'.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from decimal import Decimal
from types import MappingProxyType
from typing import Any, ClassVar

from django import forms
from django.core.exceptions import ValidationError
from rest_framework import exceptions

from crunch_tasks.contract import Visibility
from server.forms import RawTextField, RawTextModelForm, unbrowsed
from server.kinds import KINDS, AnyField
from server.models import Attribute, Dataset, Item, Project
from server.models.attributes import KEY_LENGTH
from server.models.datasets import BASE_PATH_LENGTH

NOTHING: Mapping[str, str] = MappingProxyType({})

VISIBILITIES = {
    Visibility.PRIVATE.value: "Private: its members see it, and nobody else.",
    Visibility.PUBLIC.value: "Public: anyone may see its pages, results and files. Only members change anything.",
}


class NodeForm(RawTextModelForm):
    """`denied`: the fields that this visitor may not change, each with the reason."""

    details = RawTextField(
        widget=forms.Textarea(attrs={"rows": 8}), help_text="A longer description, in Markdown. Pictures are left out."
    )

    def __init__(self, *args: Any, denied: Mapping[str, str] = NOTHING, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.denied = denied
        for name in denied:
            self.fields[name].disabled = True

    def validate_unique(self) -> None:
        """Nothing: the services do, and name what is in the way."""


class ProjectForm(NodeForm):
    visibility = forms.ChoiceField(
        label="Who may see it", choices=VISIBILITIES.items(), widget=forms.RadioSelect, initial=Visibility.PRIVATE.value
    )
    workflow = RawTextField(
        widget=forms.Textarea(
            attrs={"rows": 16, "class": "mono", "spellcheck": "false", "wrap": "off", "autocapitalize": "off"}
        ),
        help_text="The script or Snakefile, kept byte for byte, or one http(s) address of it.",
    )

    class Meta:
        model = Project
        fields: ClassVar = [
            *("name", "description", "details", "visibility", "workflow_type", "workflow"),
            *("lease_seconds", "max_attempts", "workflow_timeout_s", "needs"),
        ]
        labels: ClassVar = {
            "workflow_type": "Kind of workflow",
            "lease_seconds": "Lease, in seconds",
            "max_attempts": "Attempts at most",
            "workflow_timeout_s": "Time limit, in seconds",
            "needs": "What a machine needs",
        }


class DatasetForm(NodeForm):
    base_file_path = forms.CharField(
        label="Folder in the storage",
        required=False,
        strip=False,
        max_length=BASE_PATH_LENGTH,
        help_text="Below the project's own folder. Left empty: made from the name.",
    )

    class Meta:
        model = Dataset
        fields: ClassVar = ["name", "description", "details", "base_file_path", "priority", "needs", "locked"]
        labels: ClassVar = {"locked": "Held", "needs": "What a machine needs"}


class ItemForm(NodeForm):
    class Meta:
        model = Item
        fields: ClassVar = ["name", "description", "details"]


class PartField(forms.CharField):
    """A part of an attribute's value, checked by the rule of its kind."""

    def __init__(self, part: AnyField, stored: str, **kwargs: Any) -> None:
        super().__init__(strip=False, **kwargs)
        self.part, self.stored = part, stored

    def clean(self, value: Any) -> Any:
        text = unbrowsed(super().clean(value), self.stored)
        try:
            return self.part.run_validation(text)
        except exceptions.ValidationError as error:
            raise ValidationError([str(detail) for detail in error.detail]) from error


WIDGETS: Mapping[str, forms.Widget] = {
    "char": forms.Textarea(attrs={"rows": 2}),
    "bool": forms.Select(choices=[("true", "yes"), ("false", "no")]),
    "date": forms.TextInput(attrs={"type": "date"}),
    "datetime": forms.TextInput(attrs={"type": "datetime-local", "step": "1"}),
    "url": forms.TextInput(attrs={"type": "url"}),
}
"""What a kind's parts are typed into, where that is no plain line of text."""

HELP = {
    "filesize": "In bytes.",
    "datetime": "In UTC.",
    "lat-long": "In decimal degrees.",
    "url": "An http, https or ftp address.",
}


class AttributeForm(forms.Form):
    """Key and value of an attribute, which may be a new one; its kind is chosen already."""

    key = forms.CharField(max_length=KEY_LENGTH, help_text="What the value is: species, depth, taken on.")

    def __init__(self, data: Any = None, *, attribute: Attribute) -> None:
        self.attribute = attribute
        self.kind = KINDS[attribute.kind]
        is_new = attribute.pk is None
        texts = {} if is_new else {part: as_text(value) for part, value in attribute.values.items()}
        super().__init__(data, initial={"key": attribute.key, **texts})
        for part in self.kind.columns:
            self.fields[part] = PartField(
                self.kind.field(part),
                texts.get(part, ""),
                # An empty text is a text.
                required=attribute.kind != "char",
                widget=WIDGETS.get(attribute.kind),
                help_text=HELP.get(attribute.kind, ""),
            )


def as_text(value: Any) -> str:
    """A part of an attribute's value as it stands in its form."""
    match value:
        case None:
            return ""
        case bool():
            return str(value).lower()
        case dt.datetime():
            return value.astimezone(dt.UTC).replace(tzinfo=None).isoformat(timespec="seconds")
        case dt.date():
            return value.isoformat()
        case Decimal():
            return f"{value:f}"
    return str(value)
