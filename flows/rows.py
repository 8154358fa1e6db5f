"""Datasets as the lines of a file, CSV or JSONL, and back. Pure: text in, text out.

CSV: `name` and other fields of a dataset have columns of their own; every other column is an attribute, `KEY` or
`KEY:KIND`, or `KEY:latitude` and `KEY:longitude` together (`latitude` and `longitude` alone are the key `location`).
JSONL: one object a line, as the API takes it, or with `attributes` as `{key: value}`.
"""

from __future__ import annotations

import csv
import datetime as dt
import functools
import io
import json
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from crunch_tasks.contract import ATTRIBUTE_KINDS
from crunch_tasks.errors import UsageError

FIELDS = ("name", "description", "details", "locked", "priority", "needs", "base_file_path")
PARTS = ("latitude", "longitude")
LOCATION = "location"
KINDS = {kind.name for kind in ATTRIBUTE_KINDS} - {"lat-long"}
LONGEST_CELL = 2**27

INTEGER = re.compile(r"-?(0|[1-9][0-9]{0,17})")
NUMBER = re.compile(r"[+-]?(0|[1-9][0-9]*)?(\.[0-9]+)?([eE][+-]?[0-9]+)?")


class Format(StrEnum):
    CSV = "csv"
    JSONL = "jsonl"


@dataclass
class Row:
    """A dataset as the API takes it, and the line of the file that it begins at.

    `inferred` are the keys whose kind the file does not say.
    """

    line: int
    values: dict[str, Any]
    attributes: list[dict[str, Any]] = field(default_factory=list)
    inferred: set[str] = field(default_factory=set)

    def to_wire(self) -> dict[str, Any]:
        return {**self.values, "attributes": self.attributes}


def read(text: str, format_: Format) -> list[Row]:
    """The rows of a file's text, each attribute with a kind. Raises UsageError naming the line."""
    rows = list(_from_csv(text) if format_ is Format.CSV else _from_jsonl(text))
    for row in rows:
        if not row.values.get("name"):
            raise UsageError(f"line {row.line}: a dataset needs a name.")
    _infer(rows, TEXT_KINDS if format_ is Format.CSV else WRITTEN_KINDS)
    return rows


# --- CSV ---


def _from_csv(text: str) -> Iterator[Row]:
    csv.field_size_limit(LONGEST_CELL)
    lines = csv.reader(io.StringIO(text, newline=""), strict=True)
    begin = 1
    try:
        header = next(lines, [])
        if "name" not in header:
            hint = " Columns are parted by commas here." if len(header) == 1 and re.search(r"[;\t]", header[0]) else ""
            raise UsageError(f"line 1: there is no column `name`.{hint}")
        if twice := {column for column in header if header.count(column) > 1 or not column}:
            raise UsageError(f"line 1: the column {sorted(twice)[0]!r} is empty or there twice.")
        begin = lines.line_num + 1
        for cells in lines:
            if any(cells):
                yield _csv_row(begin, dict(zip(header, cells, strict=False)), len(cells) - len(header))
            begin = lines.line_num + 1
    except csv.Error as error:
        raise UsageError(f"line {begin}: this is no CSV: {error}.") from None


def _csv_row(line: int, cells: Mapping[str, str], too_many: int) -> Row:
    if too_many > 0:
        raise UsageError(f"line {line}: it has {too_many} cells more than there are columns.")
    row = Row(line, {name: cells[name] for name in FIELDS if cells.get(name)})
    places: dict[str, dict[str, Any]] = {}
    for column, cell in cells.items():
        if column in FIELDS or not cell:
            continue
        key, _, suffix = column.rpartition(":")
        if column in PARTS or (key and suffix in PARTS):
            place = places.setdefault(key or LOCATION, {"kind": "lat-long", "key": key or LOCATION})
            place[suffix] = cell
            if len(place) == 3:
                row.attributes.append(place)
        elif key and suffix in KINDS:
            row.attributes.append({"kind": suffix, "key": key, "value": cell})
        else:
            row.attributes.append({"key": column, "value": cell})
    if half := [key for key, place in places.items() if len(place) < 4]:
        raise UsageError(f"line {line}: {half[0]} needs a latitude and a longitude.")
    return row


# --- JSONL ---


def _from_jsonl(text: str) -> Iterator[Row]:
    for line, content in enumerate(text.split("\n"), 1):
        if not content.strip():
            continue
        try:
            found = json.loads(content)
            # Python reads more than can be sent.
            json.dumps(found, ensure_ascii=False, allow_nan=False).encode()
        except UnicodeEncodeError:
            raise UsageError(f"line {line}: a text in it has half a character, one of \\ud800 to \\udfff.") from None
        except (ValueError, RecursionError) as error:
            raise UsageError(f"line {line}: this is no JSON: {error}.") from None
        if not isinstance(found, dict):
            raise UsageError(f"line {line}: a dataset is a JSON object.")
        attributes = found.pop("attributes", [])
        if unknown := found.keys() - set(FIELDS):
            raise UsageError(
                f"line {line}: {sorted(unknown)[0]!r} is none of {', '.join(FIELDS)}, attributes."
                " A dataset's own data goes under attributes."
            )
        yield Row(line, found, _json_attributes(line, attributes))


def _json_attributes(line: int, attributes: Any) -> list[dict[str, Any]]:
    if isinstance(attributes, dict):
        attributes = [
            {"key": key, **(value if isinstance(value, dict) else {"value": value})}
            for key, value in attributes.items()
        ]
    if not isinstance(attributes, list) or not all(isinstance(attribute, dict) for attribute in attributes):
        raise UsageError(f"line {line}: attributes are a list of objects, or an object of keys and values.")
    return attributes


# --- which kind ---


def _is(parse: Callable[[str], Any]) -> Callable[[str], bool]:
    def fits(text: str) -> bool:
        try:
            parse(text)
        except (ValueError, OverflowError):
            return False
        return True

    return fits


def _moment(text: str) -> dt.datetime:
    """In UTC, where the server keeps it, it has to be a moment too."""
    found = dt.datetime.fromisoformat(text)
    return found.astimezone(dt.UTC) if found.tzinfo else found


def _is_address(text: str) -> bool:
    """Whether the server takes it as one, which checks it with the same validator."""
    from django.core.exceptions import ValidationError

    try:
        _address_validator()(text)
    except ValidationError:
        return False
    return True


@functools.cache
def _address_validator() -> Callable[[str], None]:
    from django.core.validators import URLValidator

    return URLValidator(schemes=("http", "https"))


_is_moment = _is(_moment)
WRITTEN_KINDS: Mapping[str, Callable[[str], bool]] = {
    "date": lambda text: len(text) == 10 and _is(dt.date.fromisoformat)(text),
    "datetime": lambda text: len(text) > 10 and _is_moment(text),
    "url": _is_address,
}
"""What a text may be that says itself that it is one. The first that all of a column's texts are is their kind."""

TEXT_KINDS: Mapping[str, Callable[[str], bool]] = {
    "bool": lambda text: text.lower() in ("true", "false"),
    # Not 007, which is a name, and would come back as 7.
    "int": lambda text: bool(INTEGER.fullmatch(text)),
    "float": lambda text: bool(NUMBER.fullmatch(text)) and _is(float)(text) and math.isfinite(float(text)),
    **WRITTEN_KINDS,
}


def _infer(rows: Sequence[Row], kinds: Mapping[str, Callable[[str], bool]]) -> None:
    """Give each attribute without a kind the one that fits all values of its key in the file."""
    values: dict[Any, list[Any]] = {}
    unknown = [(row, one) for row in rows for one in row.attributes if "kind" not in one and "value" in one]
    for row, attribute in unknown:
        row.inferred.add(str(attribute.get("key")))
        values.setdefault(str(attribute.get("key")), []).append(attribute["value"])
    found = {key: kind_of(of_key, kinds) for key, of_key in values.items()}
    for _, attribute in unknown:
        attribute["kind"] = found[str(attribute.get("key"))]
        value = attribute["value"]
        if attribute["kind"] == "char" and isinstance(value, bool | int | float):
            attribute["value"] = json.dumps(value)


def kind_of(values: Iterable[Any], kinds: Mapping[str, Callable[[str], bool]]) -> str:
    """The kind that fits all of these values, texts by `kinds`; `char` when there is no other."""
    values = list(values)
    types = {type(value) for value in values}
    if types == {str}:
        return next((name for name, fits in kinds.items() if all(fits(value) for value in values)), "char")
    whole = {frozenset({bool}): "bool", frozenset({int}): "int"}.get(frozenset(types))
    return whole or ("float" if types <= {int, float} else "char")


# --- and back ---


def from_wire(dataset: Mapping[str, Any]) -> dict[str, Any]:
    """What a dataset of the API is as a row; fields that have their usual value are left out."""
    usual = {"locked": False, "priority": 0, "base_file_path": str(dataset["slug"]).replace(":", "/")}
    values = {name: dataset[name] for name in FIELDS if dataset.get(name, "") != usual.get(name, "")}
    return {**values, "attributes": [dict(attribute) for attribute in dataset["attributes"]]}


def to_csv(rows: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """The lines of a CSV file. Raises UsageError when a dataset has two attributes of one key and kind."""
    cells = [_cells(row) for row in rows]
    columns = [name for name in FIELDS if name == "name" or any(name in row for row in cells)]
    columns += dict.fromkeys(name for row in cells for name in row if name not in FIELDS)
    for row in ({name: name for name in columns}, *cells):
        line = io.StringIO()
        # A lone CR ends a line for whoever reads it, but Python quotes it only where it ends lines itself.
        has_cr = any("\r" in cell for cell in row.values())
        writer = csv.writer(line, lineterminator="\n", quoting=csv.QUOTE_ALL if has_cr else csv.QUOTE_MINIMAL)
        writer.writerow([row.get(name, "") for name in columns])
        yield line.getvalue()


def _cells(row: Mapping[str, Any]) -> dict[str, str]:
    cells = {name: _text(row[name]) for name in FIELDS if name in row}
    for attribute in row["attributes"]:
        key, kind = attribute["key"], attribute["kind"]
        parts = {f"{key}:{part}": attribute[part] for part in PARTS} if kind == "lat-long" else {}
        for column, value in (parts or {f"{key}:{kind}": attribute["value"]}).items():
            if column in cells or value == "":
                what = "is empty" if value == "" else "is there twice"
                raise UsageError(f"{row['name']}: the attribute {key} {what}, which CSV cannot say. Use jsonl.")
            cells[column] = _text(value)
    return cells


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
