"""What a list can be narrowed and ordered by: only what an index serves, so that a page's cost stays the same."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Set
from dataclasses import dataclass
from typing import Any, cast

from django.db import connection
from django.db.models import QuerySet
from django.db.models.functions import Collate
from django.utils import timezone
from rest_framework.exceptions import ValidationError
from rest_framework.filters import BaseFilterBackend
from rest_framework.request import Request

from crunch_tasks.contract import DatasetState
from crunch_tasks.slugs import slug_part
from server import keyset
from server.models import Item, Project
from server.models.datasets import DatasetQuerySet
from server.permissions import Act, actor_of, project_of
from server.services.selection import beginning

Rows = QuerySet[Any]

FORMAT = "format"
PAGING = {"cursor", "page", "page_size", FORMAT}
"""The parameters that every list has."""

OTHERS = PAGING | {"ordering"}
"""The parameters of a list that are no filters."""

EXPIRED = "expired"

PLACE = "place"
"""The column that `in_byte_order` adds."""

KEY = "key"
"""By it a project's datasets are in the order of their slugs, which all begin alike."""

ORDERINGS = {"id": ("pk",), "slug": (PLACE,), "updated": ("updated", "pk")}
"""The columns of each ordering."""

NAMES = {"project": "project", "parent": "item", "item": "item"}
"""The filters whose value is a slug, and of what."""


@dataclass(frozen=True)
class Filter:
    """`narrow(rows, value, all the filters' values)` raises ValidationError for a value that cannot be."""

    help: str
    narrow: Callable[[Rows, str, Mapping[str, str]], Rows]
    choices: tuple[str, ...] = ()


@dataclass(frozen=True)
class Lists:
    """Which filters there are, and by what the rows can be ordered with each set of them (the first unless asked)."""

    filters: Mapping[str, Filter]
    orderings: Mapping[frozenset[str], tuple[str, ...]]

    def ordering(self, given: frozenset[str], asked: str) -> str:
        """The ordering to use, one of ORDERINGS or with a minus. Raises ValidationError naming what goes."""
        served = self.orderings.get(given)
        if served is None:
            sets = [" and ".join(sorted(names)) for names in self.orderings if names]
            told = f"This list can be narrowed by {'; or by '.join(sets)}."
            raise ValidationError(dict.fromkeys(sorted(given), told))
        if asked and asked.removeprefix("-") not in served:
            words = ", ".join(f"{name}, -{name}" for name in served)
            raise ValidationError({"ordering": f"This list can be ordered by {words}."})
        return asked or served[0]


class Narrowing(BaseFilterBackend):
    """Applies the parameters of a list to its view's queryset, as `view.lists` says."""

    def filter_queryset(self, request: Request, queryset: Any, view: Any) -> Any:
        if getattr(view, "detail", False):
            return queryset
        lists: Lists = view.lists
        asked = {name: str(value) for name, value in request.query_params.items()}
        _refuse_unknown(asked, lists.filters.keys() | OTHERS)
        values = {name: value for name, value in asked.items() if name in lists.filters}
        ordering = lists.ordering(frozenset(values), asked.get("ordering", ""))
        columns = ORDERINGS[ordering.removeprefix("-")]
        if columns == (PLACE,) and "project" in values:
            columns = (KEY,)
        rows: Rows = in_byte_order(queryset) if columns == (PLACE,) else queryset
        for name, value in values.items():
            if "\x00" in value:
                raise ValidationError({name: "It may not have a NUL."})
            if name in NAMES:
                _refuse_unseen(request, name, value)
            rows = lists.filters[name].narrow(rows, value, values)
        return keyset.ordered(rows, columns, down=ordering.startswith("-"))

    def get_schema_operation_parameters(self, view: Any) -> list[dict[str, Any]]:
        lists: Lists = view.lists
        names = dict.fromkeys(name for served in lists.orderings.values() for name in served)
        described = {name: (found.help, found.choices) for name, found in lists.filters.items()}
        described["ordering"] = (_combinations(lists), tuple(sign + name for name in names for sign in ("", "-")))
        return [
            {
                "name": name,
                "in": "query",
                "required": False,
                "description": help_,
                "schema": {"type": "string", **({"enum": list(choices)} if choices else {})},
            }
            for name, (help_, choices) in described.items()
        ]


class Unnarrowed(BaseFilterBackend):
    """Of a list that is told whole, in the one order of its view."""

    def filter_queryset(self, request: Request, queryset: Any, view: Any) -> Any:  # noqa: ARG002
        _refuse_unknown(request.query_params, PAGING)
        return queryset


def _refuse_unknown(asked: Iterable[str], known: Set[str]) -> None:
    """Raises ValidationError for parameters that the list does not have: it would tell more than was asked for."""
    if unknown := set(asked) - known:
        told = f"The parameters of this list are {', '.join(sorted(known - {FORMAT}))}."
        raise ValidationError(dict.fromkeys(sorted(unknown), told))


def _combinations(lists: Lists) -> str:
    parts = [
        f"{' and '.join(sorted(names)) or 'no filter'}: {', '.join(served)}"
        for names, served in lists.orderings.items()
    ]
    return "What goes together: " + "; ".join(parts) + ". A minus turns the order around."


def in_byte_order(rows: Rows) -> Rows:
    """With each row's slug as PLACE, which both databases compare byte by byte: so a prefix is a range."""
    placed: Rows = rows.annotate(**{PLACE: Collate("slug", "C" if connection.vendor == "postgresql" else "BINARY")})
    return placed


def _refuse_unseen(request: Request, name: str, slug: str) -> None:
    """Raises ValidationError when there is no such item, or none that the caller may see."""
    item = Item.objects.filter(slug=slug).first()
    if item is None or not actor_of(request).may(Act.SEE, project_of(item)):
        raise ValidationError({name: f"There is no {NAMES[name]} {slug!r}."})


# --- the filters ---


def _project(rows: Rows, slug: str, _: Mapping[str, str]) -> Rows:
    return rows.filter(project=Project.objects.filter(slug=slug).values_list("pk", flat=True).first())


def _state(rows: Rows, state: str, _: Mapping[str, str]) -> Rows:
    if state not in list(DatasetState):
        raise ValidationError({"state": f"A state is one of {', '.join(DatasetState)}."})
    return rows.filter(state=state)


def _lease(rows: Rows, lease: str, _: Mapping[str, str]) -> Rows:
    if lease != EXPIRED:
        raise ValidationError({"lease": f"A lease that can be looked for is {EXPIRED}."})
    return cast(DatasetQuerySet, rows).expired(timezone.now())


def _search(rows: Rows, text: str, values: Mapping[str, str]) -> Rows:
    sought = ":".join(slug_part(part) for part in text.split(":"))
    if not sought.strip(":"):
        raise ValidationError({"search": "The beginning of a name has a letter or a digit."})
    return beginning(rows, KEY if "project" in values else PLACE, sought)


def _item(column: str) -> Callable[[Rows, str, Mapping[str, str]], Rows]:
    def narrow(rows: Rows, slug: str, _: Mapping[str, str]) -> Rows:
        return rows.filter(**{column: Item.objects.filter(slug=slug).values_list("pk", flat=True).first()})

    return narrow


def _dataset(rows: Rows, number: str, _: Mapping[str, str]) -> Rows:
    return rows.filter(dataset=_number("dataset", number))


def _failure(rows: Rows, number: str, _: Mapping[str, str]) -> Rows:
    return rows.filter(failure=_number("failure", number))


def _number(name: str, text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 19):
        raise ValidationError({name: f"A {name}'s number is needed."})
    return int(text)


SEARCH = Filter("How the slug begins; with a project, the part after the project's.", _search)
NOTHING: frozenset[str] = frozenset()

PROJECTS = Lists({"search": SEARCH}, {NOTHING: ("id", "slug"), frozenset({"search"}): ("slug",)})
DATASETS = Lists(
    {
        "project": Filter("The slug of their project.", _project),
        "state": Filter("Those of a project in this state.", _state, tuple(DatasetState)),
        "lease": Filter("Those of a project that are running, and whose client is not heard of.", _lease, (EXPIRED,)),
        "failure": Filter("Those of a project in this group of failures, by the group's number.", _failure),
        "search": SEARCH,
    },
    {
        NOTHING: ("id", "slug"),
        frozenset({"project"}): ("id", "slug", "updated"),
        frozenset({"project", "state"}): ("id", "slug", "updated"),
        frozenset({"project", "lease"}): ("id",),
        frozenset({"project", "failure"}): ("slug",),
        frozenset({"project", "search"}): ("slug",),
        frozenset({"project", "failure", "search"}): ("slug",),
        frozenset({"search"}): ("slug",),
    },
)
ITEMS = Lists(
    {"parent": Filter("The slug of what they are directly below.", _item("parent")), "search": SEARCH},
    {NOTHING: ("id", "slug"), frozenset({"parent"}): ("id",), frozenset({"search"}): ("slug",)},
)
ATTRIBUTES = Lists(
    {"item": Filter("The slug of what they belong to.", _item("item"))},
    {NOTHING: ("id",), frozenset({"item"}): ("id",)},
)
STATUSES = Lists(
    {"dataset": Filter("Only those of the dataset with this number.", _dataset)},
    {NOTHING: ("id",), frozenset({"dataset"}): ("id",)},
)
