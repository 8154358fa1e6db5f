"""Decisions about files: what a run takes as inputs, what to fetch and what to send.

Pure: they look at listings and manifests and say what to do; `transfer` and `publication` do it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from crunch_tasks.contract import CRUNCH_FOLDER, attempt_folder
from crunch_tasks.errors import Altered, ObjectMissing
from crunch_tasks.files.manifest import AttemptPlan, Diff, Entry, Manifest, PublishedManifest
from crunch_tasks.files.paths import is_internal

SHOWN = 10
"""How many names an error message lists."""

TAKE_FILES = 'choose "Retry with new files" on the dataset\'s page'
"""What a person can do when the storage is right and the last commit is not."""

MEND = f"Put back what was published, or {TAKE_FILES}."
"""What helps where something else wrote over it, or deleted it."""

ATTEMPTS = f"{CRUNCH_FOLDER}/attempts"
"""The folder of all attempts below a prefix."""

_STAGED = re.compile(rf"{re.escape(ATTEMPTS)}/(\d+)/files/(.+)", re.DOTALL)
_SAVED = re.compile(rf"{re.escape(ATTEMPTS)}/(\d+)/saved(?:\.json|/.+)", re.DOTALL)
_PLAN = re.compile(rf"{re.escape(ATTEMPTS)}/(\d+)/plan\.json")


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """What a storage says of one object: its whole key, size in bytes, and what else it happens to know.

    `etag` changes when the object does; `md5` is set only where it is the MD5 of the object's bytes.
    """

    key: str
    size: int
    mtime_ns: int | None = None
    md5: str | None = None
    etag: str | None = None

    @property
    def tag(self) -> str | None:
        """What tells this version of the object from another one, or None when the storage does not say."""
        return self.etag or (None if self.mtime_ns is None else f"mtime-{self.mtime_ns}")

    def as_source(self) -> Source:
        """To be read as it is."""
        return Source(self.key, self.size, self.md5, self.mtime_ns, self.tag)


@dataclass(frozen=True, slots=True)
class Source:
    """Where one file of a dataset is read from, and what it must be. `md5` and `mtime_ns` are None when unknown."""

    key: str
    size: int
    md5: str | None = None
    mtime_ns: int | None = None
    tag: str | None = None

    @property
    def is_md5_published(self) -> bool:
        """Whether the MD5 is from a manifest, not the storage's word, which may be none: S3 with some encryptions."""
        return self.md5 is not None and self.md5 not in (self.tag or "")


@dataclass(frozen=True)
class Inputs:
    """What a run starts from.

    `files`: path -> Source. Of the objects that are there and no input, `deleted` are those that the last commit says
    are not the dataset's any more, to be carried on in the next one, and `ignored` those that later, uncommitted
    attempts left behind. `unpromoted`: modified files of the last commit whose bytes are still staged.
    """

    files: Mapping[str, Source]
    deleted: frozenset[str] = frozenset()
    ignored: tuple[str, ...] = ()
    unpromoted: tuple[str, ...] = ()


def staged_path(fence: int, path: str) -> str:
    """Where the attempt with this fence keeps its version of a modified file, relative to the prefix."""
    return f"{attempt_folder(fence)}/files/{path}"


def is_staged(path: str) -> bool:
    """Whether this is where an attempt keeps a modified file until it is promoted."""
    return _STAGED.fullmatch(path) is not None


def is_settled(path: str, fence: int) -> bool:
    """Whether it is a plan, a staged or saved file that nobody needs once the attempt with this fence is promoted."""
    found = _STAGED.fullmatch(path) or _SAVED.fullmatch(path) or _PLAN.fullmatch(path)
    return found is not None and int(found[1]) <= fence


def plan_path(fence: int) -> str:
    return f"{attempt_folder(fence)}/plan.json"


def plan_fences(paths: Iterable[str]) -> list[int]:
    """The fences of the attempts that left a plan, in order, found in a listing's paths."""
    return sorted(int(found[1]) for path in paths if (found := _PLAN.fullmatch(path)))


def resolve_inputs(
    listing: Mapping[str, ObjectInfo], committed: PublishedManifest | None, plans: Iterable[AttemptPlan]
) -> Inputs:
    """What a run starts from; `listing` maps each path below the prefix, internal ones included, to its object.

    `plans` are those of the attempts after the last commit: what earlier ones left is in its manifest. With a commit,
    that manifest says what the files are:

    | the path is                              | then                                               |
    |------------------------------------------|----------------------------------------------------|
    | in the manifest, modified, still staged  | input, read from the staged object                 |
    | in the manifest, otherwise               | input, read from its own name; ObjectMissing if not there |
    | deleted, says the manifest               | no input, also when a person put a file back there |
    | named as new by one of the plans         | no input: an attempt that was not committed left it |
    | anything else                            | input: a person added it                           |

    Without one:

    | the path is                              | then                                               |
    |------------------------------------------|----------------------------------------------------|
    | named as new by one of the plans         | no input: an attempt that was not committed left it |
    | in a plan's setup manifest and untouched since (size, time) | input with the MD5 from there   |
    | anything else                            | input                                              |

    No attempt names an input as new, so an input stays one whatever attempts did.
    Raises ObjectMissing and Altered when the storage does not hold what the commit says.
    """
    plans = sorted(plans, key=lambda plan: plan.fence)
    new = {path for plan in plans for path in plan.new}
    own = {path: info for path, info in listing.items() if not is_internal(path)}
    if committed is not None:
        return _resolve_committed(listing, own, committed, new)
    setup = {path: entry for plan in plans for path, entry in plan.setup.items()}
    files = {path: _source(info, setup.get(path)) for path, info in own.items() if path not in new}
    return Inputs(files=files, ignored=tuple(sorted(own.keys() - files.keys())))


def _resolve_committed(
    listing: Mapping[str, ObjectInfo], own: Mapping[str, ObjectInfo], committed: PublishedManifest, new: set[str]
) -> Inputs:
    staged = {path: info for path in committed.modified if (info := listing.get(staged_path(committed.fence, path)))}
    sizes = {**{path: entry.size for path, entry in committed.files.items()}, **committed.unread}
    missing = [path for path in sizes if path not in staged and path not in own]
    if missing:
        raise ObjectMissing(
            f"The last commit (fence {committed.fence}) names {len(missing)} files that are not in the storage: "
            f"{shown(missing)}. {MEND}"
        )
    files = {}
    for path, size in sizes.items():
        info = staged.get(path) or own[path]
        if info.size != size:
            raise Altered(
                f"{info.key!r} has {info.size} bytes, but the last commit (fence {committed.fence}) says "
                f"{size}: something else wrote it. {MEND}"
            )
        entry = committed.files.get(path)
        files[path] = Source(info.key, size, entry.md5, entry.mtime_ns, info.tag) if entry else _source(info, None)
    deleted = frozenset(path for path in committed.deleted if path in own and path not in files)
    for path in own.keys() - files.keys() - deleted - new:
        files[path] = _source(own[path], None)
    ignored = tuple(sorted(own.keys() - files.keys() - deleted))
    return Inputs(files=files, deleted=deleted, ignored=ignored, unpromoted=tuple(sorted(staged)))


def _source(info: ObjectInfo, earlier: Entry | None) -> Source:
    # An attempt never writes to an input's own name before its commit, so an object of another size or time than the
    # earlier attempt saw was replaced by a person: that manifest says nothing about it.
    untouched = earlier is not None and (earlier.size, earlier.mtime_ns) == (info.size, info.mtime_ns)
    md5 = earlier.md5 if earlier is not None and untouched else info.md5
    return Source(info.key, info.size, md5, info.mtime_ns, info.tag)


@dataclass(frozen=True, slots=True)
class LocalFile:
    """A regular file in the workspace; `md5` is None when nobody needed it."""

    size: int
    md5: str | None


def what_to_fetch(local: Mapping[str, LocalFile], sources: Mapping[str, Source]) -> list[str]:
    """The paths to download, sorted.

    | there locally | sizes equal | source's MD5 | MD5s equal | then  |
    |---------------|-------------|--------------|------------|-------|
    | no            |             |              |            | fetch |
    | yes           | no          |              |            | fetch |
    | yes           | yes         | unknown      |            | fetch |
    | yes           | yes         | known        | no         | fetch |
    | yes           | yes         | known        | yes        | keep  |
    """

    def is_right(path: str, source: Source) -> bool:
        here = local.get(path)
        return here is not None and here.size == source.size and source.md5 is not None and here.md5 == source.md5

    return sorted(path for path, source in sources.items() if not is_right(path, source))


def stored_entries(setup: Manifest, inputs: Inputs, *, fetched: bool) -> Manifest:
    """What is known of the inputs' bytes in the storage; `setup` is what the workspace held when Setup ended.

    What was fetched is what the storage has. Otherwise only the storage or an earlier manifest can tell.
    """
    if fetched:
        return Manifest({path: setup[path] for path in inputs.files if path in setup})
    return Manifest({path: entry for path, source in inputs.files.items() if (entry := entry_of(source))})


def entry_of(source: Source) -> Entry | None:
    """A source as a manifest's entry, if enough is known of it."""
    if source.md5 is None or source.mtime_ns is None:
        return None
    return Entry(source.md5, source.size, source.mtime_ns)


def changes(setup: Manifest, final: Manifest, inputs: Inputs, stored: Manifest) -> Diff:
    """What a run did to the dataset; `stored` is what `stored_entries` says.

    | an input | in `final`                | its bytes                     | then      |
    |----------|---------------------------|-------------------------------|-----------|
    | no       | yes                       |                               | added     |
    | yes      | yes                       | known to be the stored ones   | unchanged |
    | yes      | yes                       | others, or nobody knows       | modified  |
    | yes      | no, but it was in `setup` |                               | deleted   |
    | yes      | no, it never was here     |                               | in none: it stays what it is |

    So nothing is ever sent to an input's own name before the commit.
    """

    def is_stored(path: str) -> bool:
        there, here = stored.get(path), final[path]
        return there is not None and (there.md5, there.size) == (here.md5, here.size)

    unchanged = {path for path in final if path in inputs.files and is_stored(path)}
    return Diff(
        added=tuple(path for path in final if path not in inputs.files),
        modified=tuple(path for path in final if path in inputs.files and path not in unchanged),
        deleted=tuple(path for path in setup if path in inputs.files and path not in final),
        unchanged=tuple(sorted(unchanged)),
    )


@dataclass(frozen=True)
class Sends:
    """What an Upload has to do: `send` maps a path to its target, `copy` a target to the object with the same bytes.

    Targets are paths below the prefix. `present` are targets that are right already.
    """

    send: Mapping[str, str] = field(default_factory=dict)
    copy: Mapping[str, str] = field(default_factory=dict)
    present: tuple[str, ...] = ()


def what_to_send(change: Diff, final: Manifest, listing: Mapping[str, ObjectInfo], fence: int) -> Sends:
    """Where each added and modified file goes, and whether its bytes have to travel.

    An added file's target is its own name; a modified one's is the attempt's folder, as its old bytes must live until
    the commit.

    | the target is there, same size and MD5 | an attempt staged the same bytes | then |
    |-----------------------------------------|----------------------------------|------|
    | yes                                     |                                  | nothing |
    | no                                      | yes                              | copy within the storage |
    | no                                      | no                               | send |
    """
    staged: dict[tuple[str, str], str] = {}
    for path, info in listing.items():
        found = _STAGED.fullmatch(path)
        if found and info.md5 is not None:
            staged[found[2], info.md5] = path
    targets = {path: path for path in change.added}
    targets |= {path: staged_path(fence, path) for path in change.modified}
    send, copy, present = {}, {}, []
    for path, target in targets.items():
        entry = final[path]
        there = listing.get(target)
        if there is not None and (there.size, there.md5) == (entry.size, entry.md5):
            present.append(target)
        elif (path, entry.md5) in staged:
            copy[target] = staged[path, entry.md5]
        else:
            send[path] = target
    return Sends(send=send, copy=copy, present=tuple(present))


def shown(paths: list[str]) -> str:
    """The first of these paths for a message, and how many more there are."""
    more = f" and {len(paths) - SHOWN} more" if len(paths) > SHOWN else ""
    return ", ".join(repr(path) for path in paths[:SHOWN]) + more
