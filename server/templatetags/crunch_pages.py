"""What the pages' templates need beyond Django's own tags; what things look like is decided in `server.pages.looks`."""

from __future__ import annotations

import datetime as dt
from typing import Any

from django import template
from django.contrib.messages.storage.base import Message
from django.core.paginator import Page
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString

from server.models import Attribute, Dataset, Project
from server.pages import looks, markdown, project_nav

register = template.Library()

register.filter("markdown", markdown.render)
register.filter("safe_link", looks.safe_link)
register.filter("duration", looks.duration)
register.filter("fields", looks.fields)


@register.filter
def look(dataset: Dataset) -> looks.Look:
    return looks.look(dataset)


@register.filter
def shown(attribute: Attribute) -> looks.Shown:
    return looks.shown(attribute)


@register.filter
def moment(value: dt.datetime | None) -> SafeString | str:
    """A time element; the page's script turns its text into "3 minutes ago" and keeps this form as the tooltip."""
    if value is None:
        return "never"
    utc = timezone.localtime(value, dt.UTC)
    text = f"{utc.day} {utc:%b %Y, %H:%M} UTC"
    return format_html(
        '<time datetime="{}" title="{}">{}</time>', utc.isoformat(), f"{utc:%Y-%m-%d %H:%M:%S} UTC", text
    )


@register.filter
def at(values: dict[str, Any] | None, name: str) -> Any:
    """The value under a name that is itself a variable; None of no values."""
    return values.get(name) if values else None


@register.filter
def message_look(message: Message) -> str:
    """The colour of a message."""
    return {"error": "failed", "success": "completed", "warning": "expired"}.get(message.level_tag, "running")


@register.inclusion_tag("server/parts/sign.html")
def sign(key: str) -> dict[str, Any]:
    """The sign of a state, in its colour; the word has to stand beside it."""
    return {"key": key}


@register.inclusion_tag("server/parts/project_nav.html", takes_context=True, name="project_nav")
def project_links(context: template.Context, project: Project, here: str) -> dict[str, Any]:
    """The project's own pages that this visitor may open; `here` is the name of this one's address."""
    return {"links": project_nav.links(context["request"], project, here)}


@register.inclusion_tag("server/parts/pages.html", takes_context=True)
def pages(context: template.Context, page: Page[Any], parameter: str = "page", anchor: str = "") -> dict[str, Any]:
    """Links to a list's neighbouring pages, which keep the rest of the address."""

    def address(number: int) -> str:
        query = context["request"].GET.copy()
        query[parameter] = str(number)
        return f"?{query.urlencode()}{anchor and '#'}{anchor}"

    return {
        "page": page,
        "previous": address(page.previous_page_number()) if page.has_previous() else "",
        "next": address(page.next_page_number()) if page.has_next() else "",
    }
