"""Fields: lenient where a strict one would lose a client's report, strict where bytes or addresses matter."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import urlsplit

from rest_framework import serializers

from crunch_tasks.contract import cap_log_tail, cap_note
from crunch_tasks.needs import NEEDS_LENGTH, canonical
from server.models import Project
from server.permissions import Act, actor_of

ADDRESS_LENGTH = 1023
PROGRESS_BYTES = 4096


def unknown(sent: Iterable[str], known: Iterable[str]) -> dict[str, list[str]]:
    """What is wrong with those names that are not known."""
    known = list(known)
    taken = f"known are {', '.join(known)}" if known else "this takes no fields"
    told = f"It is not known here; {taken}."
    return {name: [told] for name in sorted(set(sent) - set(known))}


class OnlyKnown:
    """Mixed into serializers of what people ask for, before DRF's own: a misspelt field must not be passed over.

    What is read-only is known: what was read may be sent back. What clients report has no such check.
    """

    def to_internal_value(self, data: Any) -> Any:
        fields: Iterable[str] = self.fields  # type: ignore[attr-defined]
        if isinstance(data, Mapping) and (wrong := unknown(data, fields)):
            raise serializers.ValidationError(wrong)
        return super().to_internal_value(data)  # type: ignore[misc]


class ActSerializer(OnlyKnown, serializers.Serializer[Any]):
    """What an act is asked to do. A word in it that is not understood must not widen the act, or make a trial real."""


class RawTextField(serializers.CharField):
    """Text that is kept byte for byte, line ends and blanks at its ends included."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**{"required": False, "allow_blank": True, "trim_whitespace": False, **kwargs})


class OptionalTextField(serializers.CharField):
    """Text that may be left out, empty or null, which are all the empty string."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**{"required": False, "allow_blank": True, "allow_null": True, "default": "", **kwargs})

    def run_validation(self, data: Any = serializers.empty) -> Any:
        return super().run_validation(data) or ""


class NeedsField(serializers.CharField):
    """What is asked of a machine, given back as the one text of `crunch_tasks.needs`; empty when it may be left out."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**{"required": False, "allow_blank": True, "max_length": NEEDS_LENGTH, **kwargs})

    def to_internal_value(self, data: Any) -> str:
        try:
            return canonical(super().to_internal_value(data))
        except ValueError as error:
            raise serializers.ValidationError(str(error)) from error


class NoteField(OptionalTextField):
    """A note of any length and content, cleaned and capped: a report of failure must not be refused for its text."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(trim_whitespace=False, **kwargs)

    def to_internal_value(self, data: Any) -> str:
        return cap_note(super().to_internal_value(data))


class LogTailField(serializers.CharField):
    """The end of a workflow's output; of one that is too long, the end of that: a heartbeat must not be refused."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(allow_blank=True, trim_whitespace=False, **kwargs)

    def to_internal_value(self, data: Any) -> str:
        return cap_log_tail(super().to_internal_value(data))


class CappedTextField(OptionalTextField):
    """A label that is cut to `cap` characters, for the same reason."""

    def __init__(self, cap: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.cap = cap

    def to_internal_value(self, data: Any) -> str:
        return cap_note(super().to_internal_value(data))[: self.cap]


class WebAddressField(OptionalTextField):
    """An http(s) address that is shown as a link, of a host that may have any name; all else is taken for nothing."""

    def to_internal_value(self, data: Any) -> str:
        text = cap_note(super().to_internal_value(data))
        try:
            parts = urlsplit(text)
            is_address = parts.scheme in ("http", "https") and bool(parts.hostname) and text.isprintable()
        except ValueError:
            is_address = False
        return text if is_address and len(text) <= ADDRESS_LENGTH else ""


class ProgressField(serializers.DictField):
    """A small JSON object that both databases can keep."""

    def to_internal_value(self, data: Any) -> dict[Any, Any]:
        found = super().to_internal_value(data)
        try:
            text = json.dumps(found, allow_nan=False, ensure_ascii=False).encode()
        except (ValueError, RecursionError):
            raise serializers.ValidationError("Progress may only have JSON values.") from None
        if len(text) > PROGRESS_BYTES or b"\\u0000" in text:
            raise serializers.ValidationError(f"Progress is at most {PROGRESS_BYTES} bytes, without NUL.")
        return found


class ItemSlugField(serializers.SlugRelatedField[Any]):
    """An item, a project or the like, by its slug. What the caller does not see is not there."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(slug_field="slug", **kwargs)

    def to_internal_value(self, data: Any) -> Any:
        # PostgreSQL refuses to look for a NUL.
        if not isinstance(data, str) or "\x00" in data:
            self.fail("invalid")
        return super().to_internal_value(data)

    def get_queryset(self) -> Any:
        rows = super().get_queryset()
        if rows is None or "request" not in self.context:
            return rows
        actor = actor_of(self.context["request"])
        if rows.model is Project:
            return rows.filter(pk__in=actor.projects(Act.SEE).values("pk"))
        return actor.items(rows, Act.SEE)
