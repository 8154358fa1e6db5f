"""Places in a long list: what comes after or before one, so that a page costs the same wherever it begins.

A place is the values of a row in the columns that order the list, of which no two rows have all the same.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import Any, TypeVar

from django.db.models import F, QuerySet
from django.db.models.fields.tuple_lookups import Tuple, TupleGreaterThan, TupleLessThan

Rows = TypeVar("Rows", bound=QuerySet[Any])

MOST_MICROSECONDS = 10**16 - 1

_MICROSECOND = dt.timedelta(microseconds=1)
_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)


def ordered(rows: Rows, columns: tuple[str, ...], *, down: bool) -> Rows:
    """The rows by these columns, `down` from the greatest."""
    return rows.order_by(*(f"-{column}" if down else column for column in columns))


def beyond(rows: Rows, columns: tuple[str, ...], place: tuple[Any, ...], *, down: bool) -> Rows:
    """Those of the rows that come after the place in this order."""
    if len(columns) == 1:
        return rows.filter(**{f"{columns[0]}__{'lt' if down else 'gt'}": place[0]})
    values = Tuple(*map(F, columns))
    after = TupleLessThan(values, place) if down else TupleGreaterThan(values, place)
    # The second condition is for SQLite, which would look at all rows for the first alone.
    return rows.filter(after, **{f"{columns[0]}__{'lte' if down else 'gte'}": place[0]})


@dataclass(frozen=True)
class Part:
    """Some rows of a list, and whether there are more before and after them."""

    rows: list[Any]
    before: bool
    after: bool


def part(
    rows: QuerySet[Any],
    columns: tuple[str, ...],
    size: int,
    after: tuple[Any, ...] | None = None,
    before: tuple[Any, ...] | None = None,
    *,
    down: bool = False,
) -> Part:
    """So many of the rows in this order: those after a place, or else before one, or else the first. One query."""
    back = before is not None and after is None
    place = before if back else after
    if place is not None:
        rows = beyond(rows, columns, place, down=down != back)
    found = list(ordered(rows, columns, down=down != back)[: size + 1])
    more, found = len(found) > size, found[:size]
    if back:
        return Part(found[::-1], before=more, after=True)
    return Part(found, before=after is not None, after=more)


def microseconds(moment: dt.datetime) -> int:
    """The moment as a number, as addresses name it."""
    return (moment - _EPOCH) // _MICROSECOND


def moment(number: int) -> dt.datetime:
    """The moment of a number from 0 to MOST_MICROSECONDS."""
    return _EPOCH + number * _MICROSECOND
