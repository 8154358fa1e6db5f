"""Form fields that the admin and the pages share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django import forms

if TYPE_CHECKING:
    ModelForm = forms.ModelForm[Any]
else:
    ModelForm = forms.ModelForm


class RawTextField(forms.CharField):
    """Text that a browser must not change: it sends CRLF for every line end, and Django trims the ends.

    What comes back with CRLF is stored with the line ends that the stored text has: LF, unless it has CRLF itself.
    """

    widget = forms.Textarea

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**{"strip": False, "required": False, **kwargs})
        self.stored = ""

    def clean(self, value: Any) -> str:
        return unbrowsed(super().clean(value), self.stored)


class RawTextModelForm(ModelForm):
    """A model form whose RawTextFields know what is stored."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for name, field in self.fields.items():
            if isinstance(field, RawTextField):
                field.stored = getattr(self.instance, name, "") or ""


def unbrowsed(text: str, stored: str = "") -> str:
    """A text area's content with the line ends of what is stored.

    `stored` itself when only its line ends changed on the way, so that saving an unedited form changes nothing, even
    in a text of mixed line ends.
    """
    lines = lf(text)
    if lines == lf(stored):
        return stored
    return lines.replace("\n", "\r\n") if stored.count("\r\n") * 2 > stored.count("\n") else lines


def lf(text: str) -> str:
    """The text with LF for each line end."""
    return text.replace("\r\n", "\n").replace("\r", "\n")
