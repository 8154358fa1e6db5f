"""Whether a dataset's files are what they should be: in a folder against the storage, or in the storage itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from crunch_tasks.errors import CrunchError, UsageError
from crunch_tasks.files import reading, tree
from crunch_tasks.files.checksums import hash_file
from crunch_tasks.files.parallel import Check, in_parallel
from crunch_tasks.files.paths import is_internal
from crunch_tasks.files.storage import Storage
from crunch_tasks.files.sums import likely_part, sum_of_parts
from crunch_tasks.files.verify import md5_by_reading
from crunch_tasks.files.workspace import OwnFolder


class Sign(StrEnum):
    """How a path compares."""

    SAME = "="
    MISSING_HERE = "-"
    MISSING_THERE = "+"
    DIFFERS = "*"
    ERROR = "!"


@dataclass(frozen=True)
class Compared:
    """One path, and what is wrong with it, "" when its sign says all."""

    path: str
    sign: Sign
    problem: str = ""


Look = Callable[[str, Check], Sign]


def compare_folder(
    storage: Storage, dataset: Mapping[str, Any], folder: OwnFolder, *, check: Check = lambda: None
) -> list[Compared]:
    """A folder ("here") with the dataset's files ("there"), by path: as published or, before that, in the storage.

    | here | there | size    | MD5                                                          | sign |
    |------|-------|---------|--------------------------------------------------------------|------|
    | no   | yes   |         |                                                              | -    |
    | yes  | no    |         |                                                              | +    |
    | yes  | yes   | differs |                                                              | *    |
    | yes  | yes   | equal   | equal, by the manifest, the storage's word or reading it     | =    |
    | yes  | yes   | equal   | differs                                                      | *    |
    """
    there = reading.list_files(storage, dataset).files
    walk = folder.walk()

    def sign(path: str, check: Check) -> Sign:
        source, here = there[path], walk.files[path]
        if source.size != here.size:
            return Sign.DIFFERS
        wanted = None if source.md5 else sum_of_parts(source.tag)
        part = (storage.part_of(source) or likely_part(source.size, wanted)) if wanted else None
        with tree.open_file(folder.root, path, here) as file:
            # Not from the cache: what the disk has now is what is asked for.
            md5, parts = hash_file(file, here.size, check, part)
        if wanted and parts == wanted:
            return Sign.SAME
        if source.md5 is not None and (md5 == source.md5 or source.is_md5_published or storage.tells_md5(source.key)):
            return _equal(md5, source.md5)
        return _equal(md5, md5_by_reading(storage, source, check))

    compared = _compare(sign, there.keys() & walk.files.keys(), storage, check)
    compared += [Compared(path, Sign.MISSING_HERE) for path in there.keys() - walk.files.keys()]
    compared += [Compared(path, Sign.MISSING_THERE) for path in walk.files.keys() - there.keys()]
    return sorted(compared, key=lambda row: row.path)


def compare_storage(storage: Storage, dataset: Mapping[str, Any], *, check: Check = lambda: None) -> list[Compared]:
    """The objects in the storage ("here") with the manifest of the last commit ("there"), by path; signs as above.

    An object is read where the storage tells no MD5 of it. Raises UsageError when nothing was published.
    """
    base, sha256, _ = reading.place_of(dataset)
    if not sha256:
        raise UsageError(f"Nothing was published of {dataset['slug']} yet, so give a DIRECTORY to compare with.")
    there = reading.list_files(storage, dataset).files
    here = {info.key: info for info in storage.list_objects(base)}

    def sign(path: str, check: Check) -> Sign:
        source = there[path]
        info = here[source.key]
        if info.size != source.size:
            return Sign.DIFFERS
        if source.md5 is None or info.md5 == source.md5:
            # Of a file that its run did not fetch, only the size was published.
            return Sign.SAME
        return _equal(source.md5, md5_by_reading(storage, info.as_source(), check))

    compared = _compare(sign, (path for path, source in there.items() if source.key in here), storage, check)
    compared += [Compared(path, Sign.MISSING_HERE) for path, source in there.items() if source.key not in here]
    keys = {source.key for source in there.values()}
    others = (key.removeprefix(base) for key in here if key not in keys)
    compared += [Compared(path, Sign.MISSING_THERE) for path in others if not is_internal(path) and path not in there]
    return sorted(compared, key=lambda row: row.path)


def _compare(sign: Look, paths: Any, storage: Storage, check: Check) -> list[Compared]:
    def compare(path: str, check: Check) -> Compared:
        check()
        try:
            return Compared(path, sign(path, check))
        except CrunchError as error:
            return Compared(path, Sign.ERROR, str(error))

    return in_parallel(compare, paths, storage.parallel_large, check)


def _equal(one: str, other: str) -> Sign:
    return Sign.SAME if one == other else Sign.DIFFERS
