"""Datasets as lines of a file: what a CSV or JSONL file says, the kinds of its values, and the way back."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crunch_tasks.errors import UsageError
from flows import rows
from flows.rows import Format

CSV = """\
name,description,locked,site,eggs,mass,ringed,seen,at,page,code,latitude,longitude,nest:latitude,nest:longitude,n:char
Robin 1,"red, small",true,north,4,2.5,true,2022-03-01,2022-03-01T10:00,https://e.org/r,007,-37.8,144.9,,,5
Wren,,,,,3,FALSE,2022-03-02,2022-03-01 11:00:00Z,http://e.org,12,,,1,2,
"""
KINDS = {
    **{"site": "char", "eggs": "int", "mass": "float", "ringed": "bool", "seen": "date", "at": "datetime"},
    **{"page": "url", "code": "char", "location": "lat-long", "nest": "lat-long", "n": "char"},
}


def kinds(found: list[rows.Row]) -> dict[str, str]:
    return {attribute["key"]: attribute["kind"] for row in found for attribute in row.attributes}


def test_a_csv_file_says_fields_attributes_and_places() -> None:
    robin, wren = rows.read(CSV, Format.CSV)
    assert robin.values == {"name": "Robin 1", "description": "red, small", "locked": "true"}
    assert kinds([robin, wren]) == KINDS
    assert {"kind": "lat-long", "key": "location", "latitude": "-37.8", "longitude": "144.9"} in robin.attributes
    assert {"kind": "lat-long", "key": "nest", "latitude": "1", "longitude": "2"} in wren.attributes
    assert (robin.line, wren.line, wren.values) == (2, 3, {"name": "Wren"})


def test_a_line_number_is_that_of_the_file() -> None:
    found = rows.read('name,details\n"a","one\ntwo"\n\n"b",\n', Format.CSV)
    assert [row.line for row in found] == [2, 5]
    assert [row.line for row in rows.read('\n{"name": "a"}\n\n{"name": "b"}', Format.JSONL)] == [2, 4]


def test_a_jsonl_file_takes_kinds_from_json_and_from_texts_that_say_what_they_are() -> None:
    (row,) = rows.read(
        '{"name": "a", "priority": 3, "attributes": {"i": 1, "f": 1.5, "b": true, "t": "12", "d": "2022-03-01",'
        ' "p": {"latitude": 1, "longitude": 2}, "x": {"kind": "float", "value": 1}}}',
        Format.JSONL,
    )
    assert row.values == {"name": "a", "priority": 3}
    assert {one["key"]: one.get("kind") for one in row.attributes} == {
        **{"i": "int", "f": "float", "b": "bool", "t": "char", "d": "date", "p": None, "x": "float"}
    }


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        (["1", "2"], "int"),
        (["1", "2.0", "1e3"], "float"),
        (["1", "x"], "char"),
        (["1", "true"], "char"),
        (["01"], "char"),
        (["nan"], "char"),
        (["1e999"], "char"),
        (["9" * 19], "float"),
        (["."], "char"),
        (["2022-02-30"], "char"),
        (["2022-02-03", "2022-02-03T10:00"], "char"),
        (["javascript:alert(1)"], "char"),
        (["http://intranet/x"], "char"),
        (["http://localhost:8000/x"], "url"),
        (["2022-02-03T10:00:00+14:00"], "datetime"),
        (["0001-01-01T00:00:00+14:00"], "char"),
        ([1, 2.5], "float"),
        ([1, True], "char"),
        ([None], "char"),
    ],
)
def test_the_kind_is_that_of_all_values(values: list[Any], kind: str) -> None:
    assert rows.kind_of(values, rows.TEXT_KINDS) == kind


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "no column `name`"),
        ("a,b\n1,2", "no column `name`"),
        ("name,a,a\nx,1,2", "'a' is empty or there twice"),
        ("name,\nx,1", "'' is empty"),
        ("name\nx,y", "line 2: it has 1 cells more"),
        ("name,a\n,1", "line 2: a dataset needs a name"),
        ('name\nx\n"y', "line 3: this is no CSV"),
        ("name,latitude\nx,1", "line 2: location needs a latitude and a longitude"),
    ],
)
def test_a_csv_file_that_says_something_else_is_refused(text: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        rows.read(text, Format.CSV)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "line 1: this is no JSON"),
        ("[" * 100_000, "line 1: this is no JSON"),
        ("[]", "line 1: a dataset is a JSON object"),
        ('{"name": "a"}\n{"name": "a", "mass": 1}', "line 2: 'mass' is none of"),
        ('{"name": "a", "attributes": 1}', "line 1: attributes are"),
        ('{"name": "a", "attributes": [1]}', "line 1: attributes are"),
        ("{}", "line 1: a dataset needs a name"),
        ('{"name": "a"}\n{"name": "a", "attributes": {"x": 1e400}}', "line 2: this is no JSON: Out of range"),
        ('{"name": "\\ud800"}', "line 1: a text in it has half a character"),
    ],
)
def test_a_jsonl_file_that_says_something_else_is_refused(text: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        rows.read(text, Format.JSONL)


TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), min_size=1, max_size=20)
ATTRIBUTES = st.one_of(
    st.builds(lambda key, value: {"kind": "char", "key": key, "value": value}, TEXTS, TEXTS),
    st.builds(lambda key, value: {"kind": "int", "key": key, "value": value}, TEXTS, st.integers()),
    st.builds(lambda key: {"kind": "lat-long", "key": key, "latitude": "1.0", "longitude": "-2.0"}, TEXTS),
)


@given(
    name=TEXTS,
    details=TEXTS,
    attributes=st.lists(ATTRIBUTES, max_size=4, unique_by=lambda one: (one["key"], one["kind"])),
)
def test_what_is_written_is_read_the_same(name: str, details: str, attributes: list[dict[str, Any]]) -> None:
    usual = {"locked": False, "priority": 0, "slug": "p:d", "base_file_path": "p/d", "description": ""}
    row = rows.from_wire({**usual, "name": name, "details": details, "attributes": attributes})
    assert row == {"name": name, "details": details, "attributes": attributes}
    (read,) = rows.read("".join(rows.to_csv([row])), Format.CSV)
    assert read.values == {"name": name, "details": details}
    told = [{part: str(value) for part, value in one.items()} for one in attributes]
    assert sorted(read.attributes, key=str) == sorted(told, key=str)


def test_what_csv_cannot_say_is_refused() -> None:
    twice = [{"kind": "int", "key": "n", "value": value} for value in (1, 2)]
    with pytest.raises(UsageError, match="there twice, which CSV cannot say"):
        list(rows.to_csv([{"name": "a", "attributes": twice}]))
