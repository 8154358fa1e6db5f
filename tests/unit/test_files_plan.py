"""The decisions' truth tables, row by row, and what must hold whatever was left in a storage."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crunch_tasks.errors import ObjectMissing, StorageError
from crunch_tasks.files.manifest import AttemptPlan, Entry, Manifest, PublishedManifest, diff
from crunch_tasks.files.plan import (
    Inputs,
    LocalFile,
    ObjectInfo,
    Source,
    changes,
    plan_fences,
    resolve_inputs,
    staged_path,
    stored_entries,
    what_to_fetch,
    what_to_send,
)

A, B = "a" * 32, "b" * 32


def info(path: str, md5: str | None = A, size: int = 1, mtime_ns: int = 5) -> ObjectInfo:
    return ObjectInfo(f"p/d1/{path}", size, mtime_ns, md5, f"etag-{md5}")


def listing(*paths: str) -> dict[str, ObjectInfo]:
    return {path: info(path) for path in paths}


def manifest(**entries: str) -> Manifest:
    return Manifest({path: Entry(md5, 1, 5) for path, md5 in entries.items()})


@pytest.mark.parametrize(
    ("local", "source_md5", "fetched"),
    [
        (None, A, True),
        (LocalFile(2, None), A, True),
        (LocalFile(1, A), None, True),
        (LocalFile(1, B), A, True),
        (LocalFile(1, None), A, True),
        (LocalFile(1, A), A, False),
    ],
)
def test_what_to_fetch(local: LocalFile | None, source_md5: str | None, fetched: bool) -> None:
    here = {"x": local} if local else {}
    assert what_to_fetch(here, {"x": Source("p/d1/x", 1, source_md5)}) == (["x"] if fetched else [])


def test_what_to_send_keeps_an_inputs_own_bytes_until_the_commit() -> None:
    old, new = manifest(changed=A, same=A, gone=A), manifest(changed=B, same=A, new=A)
    sends = what_to_send(diff(old, new), new, listing("changed", "same", "gone"), fence=3)
    assert sends.send == {"new": "new", "changed": staged_path(3, "changed")}
    assert sends.copy == {}


def test_what_to_send_skips_what_is_there_and_copies_what_was_staged() -> None:
    old, new = manifest(x=A, y=A), manifest(x=B, y=B, new=A, other=A)
    there = {
        "new": info("new", A),
        "other": info("other", B),
        staged_path(3, "x"): info(staged_path(3, "x"), B),
        staged_path(2, "y"): info(staged_path(2, "y"), B),
    }
    sends = what_to_send(diff(old, new), new, there, fence=3)
    assert set(sends.present) == {"new", staged_path(3, "x")}
    assert sends.copy == {staged_path(3, "y"): staged_path(2, "y")}
    assert sends.send == {"other": "other"}


def test_what_to_send_trusts_no_object_of_unknown_sum() -> None:
    new = manifest(new=A)
    assert what_to_send(diff({}, new), new, {"new": info("new", None)}, fence=1).send == {"new": "new"}


def test_without_a_commit_an_attempts_new_files_are_no_inputs() -> None:
    plan = AttemptPlan(1, 7, manifest(x=B), new=("left",), modified=("x",))
    inputs = resolve_inputs(listing("x", "left", "added", ".crunch/dataset.json", staged_path(1, "x")), None, [plan])
    assert set(inputs.files) == {"x", "added"}
    assert inputs.ignored == ("left",)
    # The earlier attempt read this object, of the same size and time, so its sum is known.
    assert inputs.files["x"].md5 == B


def test_without_a_commit_what_any_attempt_made_is_no_input() -> None:
    first = AttemptPlan(1, 7, manifest(x=A), new=("out",))
    # A later attempt that took the first one's leftovers for inputs must not make them inputs.
    second = AttemptPlan(2, 7, manifest(x=A, out=A), new=())
    assert set(resolve_inputs(listing("x", "out"), None, [second, first]).files) == {"x"}
    # An input of the first that a person removed and the second then made is the second's.
    third = AttemptPlan(3, 7, manifest(), new=("x",))
    assert set(resolve_inputs(listing("x", "y"), None, [first, third]).files) == {"y"}


def test_an_input_that_a_person_replaced_is_taken_as_it_is() -> None:
    plan = AttemptPlan(1, 7, manifest(x=B), new=())
    replaced = {"x": info("x", None, size=1, mtime_ns=6)}
    assert resolve_inputs(replaced, None, [plan]).files["x"].md5 is None


def test_a_commit_reads_modified_files_where_they_are_staged_until_promoted() -> None:
    committed = PublishedManifest(4, 7, manifest(x=B, y=A), modified=("x",))
    staged = resolve_inputs(listing("x", "y", staged_path(4, "x")), committed, [])
    assert staged.files["x"].key == f"p/d1/{staged_path(4, 'x')}"
    assert staged.unpromoted == ("x",)
    promoted = resolve_inputs(listing("x", "y"), committed, [])
    assert (promoted.files["x"].key, promoted.files["x"].md5) == ("p/d1/x", B)
    assert promoted.unpromoted == ()
    # What another attempt staged is none of this commit's business.
    other = resolve_inputs(listing("x", "y", staged_path(5, "x")), committed, [])
    assert other.files["x"].key == "p/d1/x"


def test_after_a_commit_leftovers_are_ignored_and_additions_are_inputs() -> None:
    committed = PublishedManifest(4, 7, manifest(x=A), deleted=("gone", "gone for good", "old leftover"))
    plans = [AttemptPlan(5, 7, manifest(x=A), new=("newer",))]
    inputs = resolve_inputs(listing("x", "gone", "old leftover", "newer", "added"), committed, plans)
    assert set(inputs.files) == {"x", "added"}
    assert inputs.deleted == {"gone", "old leftover"}
    assert inputs.ignored == ("newer",)


def test_a_commit_that_the_storage_does_not_hold_is_an_error() -> None:
    committed = PublishedManifest(4, 7, manifest(x=A, y=A))
    with pytest.raises(ObjectMissing, match="'y'"):
        resolve_inputs(listing("x"), committed, [])
    with pytest.raises(StorageError, match="2 bytes"):
        resolve_inputs({"x": info("x", size=2), "y": info("y")}, committed, [])


def test_files_that_nobody_read_are_the_datasets_without_a_sum() -> None:
    committed = PublishedManifest(4, 7, manifest(x=A), unread={"y": 1})
    there = {"x": info("x"), "y": info("y", None)}
    assert resolve_inputs(there, committed, []).files["y"] == Source("p/d1/y", 1, None, 5, "etag-None")
    assert PublishedManifest.from_bytes(committed.to_bytes()) == committed
    with pytest.raises(ObjectMissing, match="'y'"):
        resolve_inputs(listing("x"), committed, [])


@pytest.mark.parametrize(
    ("in_inputs", "in_setup", "in_final", "stored", "becomes"),
    [
        (False, None, A, None, "added"),
        (False, A, A, None, "added"),
        (False, A, None, None, None),
        (True, A, A, A, "unchanged"),
        (True, A, B, A, "modified"),
        (True, A, A, None, "modified"),
        (True, None, A, None, "modified"),
        (True, A, None, A, "deleted"),
        (True, None, None, None, None),
    ],
)
def test_changes(
    in_inputs: bool, in_setup: str | None, in_final: str | None, stored: str | None, becomes: str | None
) -> None:
    def one(md5: str | None) -> Manifest:
        return manifest(x=md5) if md5 else Manifest({})

    inputs = Inputs({"x": Source("p/d1/x", 1)} if in_inputs else {})
    change = changes(one(in_setup), one(in_final), inputs, one(stored))
    groups = {name: getattr(change, name) for name in change.stats}
    assert groups == {name: ("x",) if name == becomes else () for name in groups}


def test_of_what_was_not_fetched_only_a_known_sum_tells_what_is_stored() -> None:
    setup = manifest(x=A, y=A, local=A)
    inputs = Inputs({"x": Source("k", 1, None, 5), "y": Source("k", 1, B, 5), "z": Source("k", 1, A, 5)})
    assert stored_entries(setup, inputs, fetched=True) == manifest(x=A, y=A)
    assert stored_entries(setup, inputs, fetched=False) == manifest(y=B, z=A)


def test_plans_are_found_by_their_names_alone() -> None:
    names = [".crunch/attempts/12/plan.json", ".crunch/attempts/3/plan.json", ".crunch/attempts/x/plan.json",
             ".crunch/attempts/4/files/plan.json", "attempts/5/plan.json"]  # fmt: skip
    assert plan_fences(names) == [3, 12]


NAMES = st.sets(st.sampled_from("abcdefgh"))


@given(original=NAMES, attempts=st.lists(st.tuples(NAMES, NAMES), max_size=4))
def test_whatever_attempts_left_the_inputs_stay_the_originals(
    original: set[str], attempts: list[tuple[set[str], set[str]]]
) -> None:
    """Each attempt plans some new names and dies after it sent some of them."""
    objects = set(original)
    plans: list[AttemptPlan] = []
    for fence, (planned, sent) in enumerate(attempts, 1):
        inputs = resolve_inputs(listing(*objects), None, plans)
        assert set(inputs.files) == original
        setup = Manifest({path: Entry(A, 1, 5) for path in inputs.files})
        new = planned - original
        plans.append(AttemptPlan(fence, 7, setup, new=tuple(new)))
        objects |= new & sent
    assert set(resolve_inputs(listing(*objects), None, plans).files) == original
