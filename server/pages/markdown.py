"""Markdown as safe HTML: raw HTML in it stays text, and what is left is cleaned once more."""

from __future__ import annotations

import nh3
from django.utils.safestring import SafeString, mark_safe
from markdown_it import MarkdownIt

# Pictures would be fetched from wherever the text says, which tells that place who reads the page.
_PARSER = MarkdownIt("commonmark", {"html": False}).enable(["table", "strikethrough"]).disable("image")

_TAGS = {"a", "blockquote", "br", "code", "del", "em", "h1", "h2", "h3", "h4", "h5", "h6", "hr", "li", "ol", "p", "pre"}
_TAGS |= {"s", "strong", "table", "tbody", "td", "th", "thead", "tr", "ul"}


def render(text: str) -> SafeString:
    """`text` as HTML without scripts, styles, pictures or addresses other than http, https and mailto."""
    cleaned = nh3.clean(
        _PARSER.render(text),
        tags=_TAGS,
        attributes={"a": {"href", "title"}, "ol": {"start"}},
        url_schemes={"http", "https", "mailto"},
        link_rel="noopener noreferrer nofollow",
    )
    return mark_safe(cleaned)  # noqa: S308  cleaned by nh3
