"""Pages of long lists by keyset: a page begins after the last row of the one before, so that each costs the same."""

from __future__ import annotations

import base64
import binascii
import datetime as dt
import json
from typing import Any

from django.db.models import QuerySet
from rest_framework import exceptions
from rest_framework.pagination import BasePagination
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.utils.urls import remove_query_param, replace_query_param

from crunch_tasks.contract import LARGEST_PAGE, PAGE_SIZE
from server import keyset

COUNTED = 1000
"""Lists of more rows are not counted."""

NUMBERED = 500
"""The most pages of the usual size that can be asked for by number: the database has to walk over all rows before."""

_KEYS = (-(2**63 - 1), 2**63 - 1)
_NUMBERS = {"pk": _KEYS, "item_id": _KEYS, "updated": (0, keyset.MOST_MICROSECONDS)}
"""The columns that a cursor has as numbers, from the least to the most that one can be; the others are texts."""


class Pages(BasePagination):
    """Follow `next`. The queryset is ordered by columns whose values together are unique (see `server.api.filters`).

    `?page=N` is for clients that were written before: its `next` goes on by keyset.
    """

    def paginate_queryset(self, queryset: Any, request: Request, view: Any = None) -> list[Any]:  # noqa: ARG002
        order = queryset.query.order_by
        self.columns = tuple(column.removeprefix("-") for column in order)
        self.address = remove_query_param(request.build_absolute_uri(), "page")
        self.size = _page_size(request.query_params.get("page_size"))
        number, cursor = request.query_params.get("page"), request.query_params.get("cursor")
        count = queryset.order_by()[: COUNTED + 1].count()
        self.count = count if count <= COUNTED else None
        if cursor is not None:
            backwards, place = _read(cursor, self.columns)
            return self._from(queryset, backwards, place, down=order[0].startswith("-"))
        return self._numbered(queryset, _page_number(number, self.size) if number is not None else 1)

    def _numbered(self, queryset: QuerySet[Any], number: int) -> list[Any]:
        first = (number - 1) * self.size
        rows = list(queryset[first : first + self.size + 1])
        if number > 1 and not rows:
            raise exceptions.NotFound(f"There is no page {number}.")
        return self._linked(rows[: self.size], before=number > 1, after=len(rows) > self.size)

    def _from(self, queryset: QuerySet[Any], backwards: bool, place: tuple[Any, ...], *, down: bool) -> list[Any]:
        after, before = (None, place) if backwards else (place, None)
        found = keyset.part(queryset, self.columns, self.size, after, before, down=down)
        return self._linked(found.rows, before=found.before, after=found.after)

    def _linked(self, rows: list[Any], *, before: bool, after: bool) -> list[Any]:
        self.previous = self._link(rows[0], backwards=True) if before and rows else None
        self.next = self._link(rows[-1], backwards=False) if after and rows else None
        return rows

    def _link(self, row: Any, *, backwards: bool) -> str:
        values = (getattr(row, column) for column in self.columns)
        place = (keyset.microseconds(value) if isinstance(value, dt.datetime) else value for value in values)
        cursor = json.dumps([backwards, *place]).encode()
        return replace_query_param(self.address, "cursor", base64.urlsafe_b64encode(cursor).decode())

    def get_paginated_response(self, data: Any) -> Response:
        return Response({"count": self.count, "next": self.next, "previous": self.previous, "results": data})

    def get_paginated_response_schema(self, schema: dict[str, Any]) -> dict[str, Any]:
        link = {"type": "string", "format": "uri", "nullable": True}
        counted = {
            "type": "integer",
            "nullable": True,
            "description": f"Of all pages together; null when they are more than {COUNTED}.",
        }
        members = {"count": counted, "next": link, "previous": link, "results": schema}
        return {"type": "object", "required": list(members), "properties": members}

    def get_schema_operation_parameters(self, view: Any) -> list[Any]:  # noqa: ARG002
        return [
            {
                "name": "cursor",
                "in": "query",
                "required": False,
                "schema": {"type": "string"},
                "description": "Of a `next` or `previous` link.",
            },
            {
                "name": "page",
                "in": "query",
                "required": False,
                "schema": {"type": "integer", "minimum": 1, "maximum": NUMBERED},
                "description": "A page by its number; better follow `next`.",
            },
            {
                "name": "page_size",
                "in": "query",
                "required": False,
                "schema": {"type": "integer", "minimum": 1, "maximum": LARGEST_PAGE, "default": PAGE_SIZE},
                "description": "How many rows a page has, for those who read whole lists.",
            },
        ]


def _page_number(text: str, size: int) -> int:
    most = max(NUMBERED * PAGE_SIZE // size, 1)
    if not (_is_number(text) and 0 < int(text) <= most):
        raise exceptions.NotFound(f"A page's number is 1 to {most}. Follow `next` for what is beyond.")
    return int(text)


def _page_size(text: str | None) -> int:
    if text is None:
        return PAGE_SIZE
    if not (_is_number(text) and 0 < int(text) <= LARGEST_PAGE):
        raise exceptions.ValidationError({"page_size": f"A page has 1 to {LARGEST_PAGE} rows."})
    return int(text)


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) < 10


def _read(cursor: str, columns: tuple[str, ...]) -> tuple[bool, tuple[Any, ...]]:
    """Whether the cursor goes backwards, and the place it begins at. Raises ValidationError."""
    try:
        backwards, *values = json.loads(base64.urlsafe_b64decode(cursor.encode()))
        if isinstance(backwards, bool):
            return backwards, tuple(_value(*pair) for pair in zip(columns, values, strict=True))
    except (ValueError, TypeError, binascii.Error, RecursionError):
        pass
    raise exceptions.ValidationError({"cursor": "Take the whole `next` or `previous` link of an answer."})


def _value(column: str, value: Any) -> Any:
    """A column's value as a cursor has it. Raises ValueError for what no row can have there."""
    if column in _NUMBERS:
        least, most = _NUMBERS[column]
        if type(value) is int and least <= value <= most:
            return keyset.moment(value) if column == "updated" else value
    # PostgreSQL refuses a NUL, and no database takes half a character, for which this raises.
    elif type(value) is str and "\x00" not in value and value.encode():
        return value
    raise ValueError(value)
