"""Names: turn what a storage or a workflow calls a file into a relative path that is safe to keep, or say why not.

Pure. Every name that Crunch reads or writes passes through here, because names are hostile: a key such as `../x` must
never become a path outside the workspace, and two names must never become one file.
"""

from __future__ import annotations

import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable

from crunch_tasks.contract import CRUNCH_FOLDER
from crunch_tasks.errors import NamesRefused, StorageError

SNAKEMAKE_FOLDER = ".snakemake"
INTERNAL_FOLDERS = (CRUNCH_FOLDER, SNAKEMAKE_FOLDER)
"""Folders at the top of a workspace or prefix whose files belong to Crunch or Snakemake, never to the dataset."""

MAX_SEGMENT_BYTES = 255
"""The longest file name that common file systems keep, in bytes of UTF-8."""

MAX_PATH_BYTES = 900
"""The longest path below a prefix; S3 keys end at 1,024 bytes, and prefixes and staging folders need their part."""


def is_internal(path: str) -> bool:
    """Whether `path` (relative to a workspace or prefix) belongs to Crunch or Snakemake."""
    return path.split("/", 1)[0] in INTERNAL_FOLDERS


def safe_prefix(prefix: str) -> str:
    """A dataset's base path as the prefix of its keys, ending in `/` so that `p/d1` is not also `p/d10`.

    Raises StorageError when it is empty or leads out of the storage.
    """
    stripped = prefix.rstrip("/")
    problem = name_problem(stripped)
    if problem:
        raise StorageError(f"The dataset's base path {prefix!r} cannot be used: {problem}. Correct it on the server.")
    return stripped + "/"


def safe_path(key: str, prefix: str) -> str:
    """The path of `key` below `prefix` (which ends in `/`). Raises NamesRefused when it is not safe to keep."""
    if not key.startswith(prefix):
        raise NamesRefused([f"{key!r}: not below {prefix!r}"])
    path = key[len(prefix) :]
    problem = name_problem(path)
    if problem:
        raise NamesRefused([f"{path!r}: {problem}"])
    return path


_PLAIN = re.compile(r"(?:[\w-][\w.-]{0,60}/){0,10}[\w-][\w.-]{0,60}", re.ASCII)
"""Names that nothing can be wrong with, as most are: to look at them closely would take most of a listing's time."""


def name_problem(path: str) -> str | None:
    """Why `path` cannot be kept, or None when it can."""
    if _PLAIN.fullmatch(path):
        return None
    whole = (
        (not path, "the name is empty"),
        (path.startswith("/"), "the path is absolute"),
        ("\\" in path, "it has a backslash, which some systems take for a folder"),
        (_has_control(path), "it has a control character, or is not valid UTF-8"),
        (_bytes(path) > MAX_PATH_BYTES, f"the path is longer than {MAX_PATH_BYTES} bytes"),
    )
    problem = next((sentence for is_wrong, sentence in whole if is_wrong), None)
    return problem or next(filter(None, map(_segment_problem, path.split("/"))), None)


def _segment_problem(segment: str) -> str | None:
    if not segment:
        return "a folder in it has no name"
    if segment in (".", ".."):
        return f"it has {segment!r} as a part"
    if _bytes(segment) > MAX_SEGMENT_BYTES:
        return f"a part is longer than {MAX_SEGMENT_BYTES} bytes"
    return None


def _has_control(text: str) -> bool:
    # Lone surrogates are what Python makes of file names that are not valid UTF-8.
    return not text.isprintable() and any(unicodedata.category(character) in ("Cc", "Cs") for character in text)


def _bytes(text: str) -> int:
    return len(text.encode("utf-8", "surrogatepass"))


def check_names(names: Iterable[str], *, folds: bool) -> list[str]:
    """All that is wrong with a dataset's paths, a sentence each, sorted; empty when they can all be kept together.

    `folds` says that the local file system takes names for the same that differ only in case or Unicode form.
    """
    names = list(names)
    problems = [f"{name!r}: {problem}" for name in names if (problem := name_problem(name))]
    files = set(names)
    folders = {parent for name in files for parent in _parents(name)}
    problems += [f"{name!r}: it is both a file and a folder" for name in files & folders]
    if folds:
        problems += _collisions(files | folders)
    return sorted(problems)


def refuse_bad_names(names: Iterable[str], *, folds: bool) -> None:
    """Raises NamesRefused with every problem that `check_names` finds."""
    problems = check_names(names, folds=folds)
    if problems:
        raise NamesRefused(problems)


def fold(name: str) -> str:
    """What file systems that ignore case and Unicode form make of `name`."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def _parents(path: str) -> Iterable[str]:
    end = path.find("/")
    while end != -1:
        yield path[:end]
        end = path.find("/", end + 1)


def _collisions(names: Iterable[str]) -> list[str]:
    groups = defaultdict(set)
    for name in names:
        groups[fold(name)].add(name)
    return [
        " and ".join(repr(name) for name in sorted(group)) + ": this file system takes them for one name"
        for group in groups.values()
        if len(group) > 1
    ]
