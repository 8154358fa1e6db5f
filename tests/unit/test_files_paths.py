"""Names: what is kept, what is refused, and that nothing leads out of a folder."""

from __future__ import annotations

import posixpath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crunch_tasks.errors import NamesRefused, StorageError
from crunch_tasks.files.paths import (
    check_names,
    is_internal,
    name_problem,
    refuse_bad_names,
    safe_path,
    safe_prefix,
)

HOSTILE = ["", ".", "..", "/abs", "a//b", "a/", "/", "a/./b", "a/../b", "../a", "a\\b", "a\nb", "a\x00b", "\x7f",
           "\x85", "n" * 256, "ä" * 128, "\udcff", "/".join(["folder"] * 150)]  # fmt: skip
FINE = ["a", "-a", "a b", " a", "sample#1", "x%20y", "q?", "ä", "e\u0301", "...", "..a", "a..", ".hidden", "n" * 255,
        "'\"", "a\u2028b", "\U0001f600", "a/b/c", "~", "C:"]  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names_are_refused(name: str) -> None:
    assert name_problem(name)
    with pytest.raises(NamesRefused):
        safe_path(f"p/d1/{name}", "p/d1/")


@pytest.mark.parametrize("name", FINE)
def test_unusual_names_are_kept(name: str) -> None:
    assert name_problem(name) is None
    assert safe_path(f"p/d1/{name}", "p/d1/") == name


@given(st.text(alphabet=st.sampled_from("./\\ab\n\u00e4"), max_size=12))
def test_no_name_that_is_kept_leads_out(name: str) -> None:
    if name_problem(name) is None:
        assert posixpath.normpath(posixpath.join("/root", name)).startswith("/root/")
        assert posixpath.normpath(name) == name


def test_a_key_of_another_dataset_is_refused() -> None:
    with pytest.raises(NamesRefused):
        safe_path("p/d10/x", "p/d1/")


@pytest.mark.parametrize(("given", "kept"), [("p/d1", "p/d1/"), ("p/d1/", "p/d1/"), ("p", "p/")])
def test_a_prefix_ends_in_a_slash(given: str, kept: str) -> None:
    assert safe_prefix(given) == kept


@pytest.mark.parametrize("prefix", ["", "/", "..", "../p", "/p", "p/../q"])
def test_a_base_path_that_leads_out_is_refused(prefix: str) -> None:
    with pytest.raises(StorageError, match="base path"):
        safe_prefix(prefix)


def test_a_file_that_is_also_a_folder_is_refused() -> None:
    (problem,) = check_names(["a", "a/b/c"], folds=False)
    assert "both a file and a folder" in problem
    (problem,) = check_names(["a/b", "a/b/c"], folds=False)
    assert "'a/b'" in problem


@pytest.mark.parametrize(
    "names", [["Results", "results"], ["\u00e4", "a\u0308"], ["A/x", "a/y"], ["stra\u00dfe", "STRASSE"]]
)
def test_names_that_fold_into_one_are_refused_where_they_do(names: list[str]) -> None:
    assert check_names(names, folds=False) == []
    problems = check_names(names, folds=True)
    assert len(problems) == 1
    assert "one name" in problems[0]


def test_all_problems_are_told_at_once() -> None:
    with pytest.raises(NamesRefused) as caught:
        refuse_bad_names(["ok", "..", "a//b"], folds=False)
    assert len(caught.value.problems) == 2
    assert "ok" not in str(caught.value).splitlines()[1:]


@pytest.mark.parametrize(
    ("path", "internal"),
    [(".crunch/x", True), (".snakemake/log/x", True), (".crunchy/x", False), ("a/.crunch/x", False), (".crunch", True)],
)
def test_internal_folders_are_those_at_the_top(path: str, internal: bool) -> None:
    assert is_internal(path) is internal
