"""Rows of a file that would be in each other's way are found whatever lies between them."""

from __future__ import annotations

import pytest

from flows.apart import collisions
from flows.rows import Row


@pytest.mark.parametrize(
    ("first", "second", "words"),
    [
        ({"name": "x 0"}, {"name": "X-0"}, "line 9: name: 'X-0' and 'x 0' of line 2 would have one slug, 'x-0'."),
        ({"name": "a", "base_file_path": "p/x"}, {"name": "b", "base_file_path": "p/x"}, "files with that of line 2"),
        ({"name": "a", "base_file_path": "p/x/y"}, {"name": "b", "base_file_path": "p/x"}, "files with that of line 2"),
        ({"name": "a", "base_file_path": "p/x"}, {"name": "b", "base_file_path": "p/x/y"}, "files with that of line 2"),
        ({"name": "a", "base_file_path": "p/x"}, {"name": "b", "base_file_path": "p/xy"}, ""),
        ({"name": "a"}, {"name": "b", "base_file_path": "p/a"}, ""),
        # What is no name or folder at all, the server says.
        ({"name": "!"}, {"name": "?"}, ""),
        ({"name": 1, "base_file_path": 1}, {"name": 2, "base_file_path": 1}, ""),
    ],
)
def test_two_rows_collide(first: dict, second: dict, words: str) -> None:
    told = collisions([Row(2, first), Row(5, {"name": "other"}), Row(9, second)])
    assert len(told) == bool(words)
    assert words in "".join(told)
