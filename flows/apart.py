"""Which rows of a file would be in each other's way: two names that make one slug, two folders that share files.

The server finds them only among the rows of one call, and a file may take several. Pure.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from crunch_tasks.slugs import slug_part
from flows.rows import Row


def collisions(rows: Sequence[Row]) -> list[str]:
    """A sentence for each row that an earlier one is in the way of."""
    return [sentence for _, sentence in sorted([*_of_names(rows), *_of_folders(rows)])]


def _of_names(rows: Sequence[Row]) -> Iterator[tuple[int, str]]:
    first: dict[str, Row] = {}
    for row in rows:
        slug = slug_part(str(row.values["name"]))
        if slug and (other := first.setdefault(slug, row)) is not row:
            names = f"{row.values['name']!r} and {other.values['name']!r} of line {other.line}"
            yield row.line, f"line {row.line}: name: {names} would have one slug, {slug!r}. Choose another name."


def _of_folders(rows: Sequence[Row]) -> Iterator[tuple[int, str]]:
    at: dict[str, int] = {}
    around: dict[str, int] = {}
    for row in rows:
        path = row.values.get("base_file_path")
        if not path or not isinstance(path, str):
            continue
        above = _above(path)
        other = next((at[folder] for folder in (path, *above) if folder in at), around.get(path))
        if other is not None:
            yield row.line, f"line {row.line}: base_file_path: {path!r} would share files with that of line {other}."
        at.setdefault(path, row.line)
        for folder in above:
            around.setdefault(folder, row.line)


def _above(path: str) -> list[str]:
    segments = path.split("/")
    return ["/".join(segments[:count]) for count in range(1, len(segments))]
