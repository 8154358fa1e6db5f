"""Two people who edit the same thing: a form takes along what it showed, so that neither's work is lost.

It takes sums of its fields and not the row's time of change, which a hold or a pause does not move. Pure: it compares
what a form showed, what was sent, and what is stored now.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Any

from django import forms
from django.http import QueryDict

from server.forms import lf

SEEN = "seen"
"""The name of the hidden field."""


@dataclass(frozen=True)
class Merged:
    """What to show again: the visitor's fields, with those of others where only others changed them.

    `theirs`: what is stored now in the fields that both changed, which show what the visitor wrote.
    """

    data: QueryDict
    theirs: dict[str, str]


def seen(form: forms.BaseForm) -> str:
    """The hidden field's value: a sum of what the form shows in each field that the visitor may change."""
    return json.dumps({name: _sum(value) for name, value in _stored(form).items()})


def changed(form: forms.BaseForm) -> list[str]:
    """The fields in which something else was sent than is stored."""
    sent = _sent(form)
    return [name for name, value in _stored(form).items() if sent[name] != value]


def merge(form: forms.BaseForm, data: QueryDict) -> Merged | None:
    """The form's `data` with what others changed since it was shown; None when they changed nothing."""
    before, sent = _sums(data.get(SEEN, "")), _sent(form)
    moved = {name: value for name, value in _stored(form).items() if before.get(name, _sum(value)) != _sum(value)}
    if all(sent[name] == value for name, value in moved.items()):
        return None
    merged, theirs = data.copy(), {}
    for name, value in moved.items():
        if _sum(sent[name]) == before[name]:
            merged[name] = value
        elif sent[name] != value:
            theirs[name] = value
    return Merged(merged, theirs)


def _stored(form: forms.BaseForm) -> dict[str, str]:
    return {
        name: _text(field.prepare_value(form.get_initial_for_field(field, name)))
        for name, field in form.fields.items()
        if not field.disabled
    }


def _sent(form: forms.BaseForm) -> dict[str, str]:
    return {
        name: _text(field.widget.value_from_datadict(form.data, form.files, form.add_prefix(name)))
        for name, field in form.fields.items()
    }


def _text(value: Any) -> str:
    # Browsers change line ends, which is no change by a person.
    return "" if value is None else lf(str(value))


def _sum(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _sums(value: str) -> dict[str, str]:
    try:
        found = json.loads(value)
    except (ValueError, RecursionError):
        return {}
    return {name: str(one) for name, one in found.items()} if isinstance(found, dict) else {}
