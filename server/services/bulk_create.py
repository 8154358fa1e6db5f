"""Making many datasets of a project at once, with their attributes: all or none."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from django.core.exceptions import ValidationError
from django.db import IntegrityError, connection, transaction

from crunch_tasks.errors import Refused
from server.models import Attribute, Dataset, Item, Project
from server.services import catalogue, counts, queue

BATCH = 500
"""Rows of one INSERT, so that a statement stays of moderate size."""

ITEM_FIELDS = ("name", "description", "details")

_WANTED = {
    "sqlite": "SELECT DISTINCT w.value FROM json_each(%s) AS w",
    "postgresql": "SELECT DISTINCT w.value FROM json_array_elements_text(%s::json) AS w(value)",
}
# In bytes, as the index on the paths has it: "0" is the character after "/".
_INSIDE = {
    "sqlite": "d.base_file_path > w.value || '/' AND d.base_file_path < w.value || '0'",
    "postgresql": "d.base_file_path ~>~ (w.value || '/') AND d.base_file_path ~<~ (w.value || '0')",
}

Errors = dict[int, dict[str, list[str]]]


@dataclass(frozen=True)
class NewDataset:
    """`values` are a dataset's fields that a person decides, `attributes` those of each (`kind`, `key`, columns)."""

    values: Mapping[str, Any]
    attributes: Sequence[Mapping[str, Any]] = ()


@dataclass(frozen=True)
class Made:
    """The new datasets by their row, and the slugs of those that there were already."""

    datasets: dict[int, Dataset] = field(default_factory=dict)
    existing: list[str] = field(default_factory=list)


class RowsWrong(Exception):
    """What is wrong, by row and field, in sentences."""

    def __init__(self, rows: Errors) -> None:
        super().__init__(f"{len(rows)} rows are wrong.")
        self.rows = rows


def create_datasets(
    project: Project,
    rows: Mapping[int, NewDataset],
    *,
    wrong: Errors | None = None,
    skip_existing: bool = False,
    dry_run: bool = False,
) -> Made:
    """Make all of these datasets of the project, whose keys are the numbers of their rows.

    `wrong` says what the caller found in other rows, to be told with the rest.
    With `skip_existing` those that the project has already are left as they are; with `dry_run` none is made. Raises
    RowsWrong, having made none, for what `catalogue.create_dataset` refuses and for rows that are in each other's way;
    Refused, 409 `changed`, when somebody made one of them meanwhile.
    """
    try:
        with transaction.atomic():
            # Of two paths set at once, the second sees the first.
            Project.objects.select_for_update(of=("self",)).get(pk=project.pk)
            made = _planned(project, rows, dict(wrong or {}), skip_existing)
            if dry_run:
                return made
            _insert(made.datasets, rows)
    except IntegrityError:
        raise Refused("Somebody made one of these datasets meanwhile. Send them again.", 409, "changed") from None
    counts.fold(project.pk)
    return made


def _planned(project: Project, rows: Mapping[int, NewDataset], errors: Errors, skip_existing: bool) -> Made:
    """The datasets as they would be made."""
    slugs = _slugs(project, rows, errors)
    there = set(Item.objects.filter(slug__in=slugs.values()).values_list("slug", flat=True))
    existing: list[str] = []
    if skip_existing:
        existing = sorted(project.datasets.filter(slug__in=there).values_list("slug", flat=True))
        slugs = {row: slug for row, slug in slugs.items() if slug not in set(existing)}
    for row, slug in slugs.items():
        if slug in there:
            errors[row] = catalogue.taken(slug).message_dict
    paths = _paths(
        project, {row: (slug, rows[row].values.get("base_file_path", "")) for row, slug in slugs.items()}, errors
    )
    try:
        queue.check_kinds(project, [rows[row].values.get("needs", "") for row in slugs])
    except ValidationError as error:
        errors.setdefault(min(slugs), {}).update(error.message_dict)
    if errors:
        raise RowsWrong(dict(sorted(errors.items())))
    datasets = {
        row: Dataset(
            **{**rows[row].values, "base_file_path": paths[row]},
            slug=slug,
            key=catalogue.key_of(slug),
            project=project,
            parent=project,
            plain=False,
        )
        for row, slug in slugs.items()
    }
    return Made(datasets, existing)


def _slugs(project: Project, rows: Mapping[int, NewDataset], errors: Errors) -> dict[int, str]:
    """The slug of each row that can have one of its own."""
    first: dict[str, int] = {}
    for row, new in rows.items():
        try:
            slug = catalogue.slug_below(project, new.values["name"])
        except ValidationError as error:
            errors[row] = error.message_dict
            continue
        if slug in first:
            errors[row] = {"name": [f"Row {first[slug]} would be {slug!r} too. Choose another name."]}
        else:
            first[slug] = row
    return {row: slug for slug, row in first.items()}


def _paths(project: Project, wanted: Mapping[int, tuple[str, str]], errors: Errors) -> dict[int, str]:
    """The folder of each row, of which `wanted` has the slug and the path that was asked for, if any."""
    shared = _shared([path or catalogue.usual_path(slug) for slug, path in wanted.values()])
    promised, paths = _Promised(), {}
    # Those that were asked for come first: the others go where there is room.
    for row, (slug, path) in sorted(wanted.items(), key=lambda entry: not entry[1][1]):
        found = path or catalogue.usual_path(slug)
        try:
            if path:
                _check_path(project, path, path in shared, promised.sharing(path))
            elif found in shared or promised.sharing(found):
                found = catalogue.free_path(project, found, lambda other: bool(promised.sharing(other)))
        except ValidationError as error:
            errors.setdefault(row, {}).update(error.message_dict)
            continue
        paths[row] = found
        promised.add(found, row)
    return paths


def _check_path(project: Project, path: str, shared: bool, row: int) -> None:
    if problem := catalogue.path_problem(project, path):
        raise ValidationError({"base_file_path": problem})
    if row:
        raise ValidationError({"base_file_path": f"{path!r} would share files with row {row}."})
    if shared:
        catalogue.check_base_path(project, path)


class _Promised:
    """The folders that rows of the request have got."""

    def __init__(self) -> None:
        self._at: dict[str, int] = {}
        self._above: dict[str, int] = {}

    def add(self, path: str, row: int) -> None:
        self._at[path] = row
        self._above.update(dict.fromkeys(_above(path), row))

    def sharing(self, path: str) -> int:
        """A row whose folder is this one, above it or inside it; 0 when there is none."""
        return next((self._at[other] for other in (path, *_above(path)) if other in self._at), self._above.get(path, 0))


def _above(path: str) -> list[str]:
    """The folders above this one, but for the project's own."""
    segments = path.split("/")
    return ["/".join(segments[:count]) for count in range(2, len(segments))]


def _shared(paths: Iterable[str]) -> set[str]:
    """Those of these folders that share files with a dataset that there is."""
    chains = {path: [path, *_above(path)] for path in paths}
    taken = _joined((folder for chain in chains.values() for folder in chain), "d.base_file_path = w.value")
    above = {path for path, chain in chains.items() if not taken.isdisjoint(chain)}
    return above | _joined(chains, _INSIDE[connection.vendor])


def _joined(folders: Iterable[str], condition: str) -> set[str]:
    """Those of `folders` for which there is a dataset with this condition, in one query."""
    query = f"{_WANTED[connection.vendor]} JOIN server_dataset AS d ON {condition}"
    with connection.cursor() as cursor:
        cursor.execute(query, [json.dumps(sorted(set(folders)))])
        return {folder for (folder,) in cursor.fetchall()}


def _insert(datasets: Mapping[int, Dataset], rows: Mapping[int, NewDataset]) -> None:
    """One table after the other: Django's own `bulk_create` makes no rows whose columns are in two."""
    made = list(datasets.values())
    items = [
        Item(
            slug=dataset.slug,
            parent_id=dataset.project_id,
            plain=dataset.plain,
            **{name: getattr(dataset, name) for name in ITEM_FIELDS},
        )
        for dataset in made
    ]
    Item.objects.bulk_create(items, batch_size=BATCH)
    for dataset, item in zip(made, items, strict=True):
        dataset.pk = dataset.id = item.pk
    fields = Dataset._meta.local_concrete_fields
    size = min(BATCH, connection.ops.bulk_batch_size(fields, made))
    manager: Any = Dataset._base_manager
    for first in range(0, len(made), size):
        manager._insert(made[first : first + size], fields=fields, using=connection.alias)
    attributes = [
        Attribute(item=dataset, **values) for row, dataset in datasets.items() for values in rows[row].attributes
    ]
    for attribute in attributes:
        attribute.put_on_map()
    Attribute.objects.bulk_create(attributes, batch_size=BATCH)
