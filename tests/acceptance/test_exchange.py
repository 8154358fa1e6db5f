"""Many datasets into a project from a file and out of it; what there is, listed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from crunch_tasks.link.client import CrunchClient
from flows import exchange
from tests.acceptance.conftest import Answer
from tests.support.site import CRUNCH, Site

CSV = "\ufeffname,details,priority,mass,seen,latitude,longitude\n" + "".join(
    f'Robin {number},"a, b",{number},{number}.5,2022-03-0{number},{number},-{number}\n' for number in range(1, 6)
)


def test_a_file_is_imported_exported_and_imported_elsewhere_the_same(
    site: Site, crunch: Callable[..., Answer], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The file takes more than one call.
    monkeypatch.setattr(exchange, "AT_ONCE", 2)
    for name in ("birds", "copy", "again"):
        site.add_project(name, "true\n")
    file = tmp_path / "birds.csv"
    file.write_text(CSV)
    slugs = [f"birds:robin-{number}" for number in range(1, 6)]

    code, out, err = crunch("import", str(file), "--project", "birds", "--dry-run")
    assert (code, out.split()) == (0, slugs)
    assert "5 datasets would be added to birds; attributes: mass (float), seen (date), location (lat-long)." in err
    assert not list(site.client.pages("api/datasets/"))
    assert crunch("import", str(file), "--project", "birds")[1].split() == slugs
    robin = site.dataset("birds:robin-3")
    assert (robin["priority"], robin["details"]) == (3, "a, b")
    assert {one["key"]: one.get("value", one.get("latitude")) for one in robin["attributes"]} == {
        **{"mass": 3.5, "seen": "2022-03-03", "location": "3.000000000"}
    }

    # A person is not told thousands of names.
    monkeypatch.setattr(exchange, "TOLD", 2)
    with monkeypatch.context() as at_a_terminal:
        at_a_terminal.setattr(sys.stdout, "isatty", lambda: True)
        code, out, err = crunch("import", str(file), "--project", "copy", "--dry-run")
    assert out.split() == ["copy:robin-1", "copy:robin-2"]
    assert "and 3 more; --json tells all of them.\n5 datasets would be added to copy" in err

    file.write_text(CSV + "Wren,,,9,2022-03-09,1,1\n")
    code, out, err = crunch("import", str(file), "--project", "birds", "--json")
    assert json.loads(out) == {"dry_run": False, "created": ["birds:wren"], "existing": slugs}

    for format_, project in (("csv", "copy"), ("jsonl", "again")):
        written = crunch("export", "--project", "birds", "--format", format_)[1]
        copied = tmp_path / f"copy.{format_}"
        copied.write_text(written, newline="")
        assert crunch("import", str(copied), "--project", project)[0] == 0
        assert crunch("export", "--project", project, "--format", format_)[1] == written
        assert site.dataset(f"{project}:robin-3")["attributes"] == robin["attributes"]


def test_what_is_wrong_in_a_file_is_told_by_line_and_nothing_is_added(
    site: Site, crunch: Callable[..., Answer], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exchange, "AT_ONCE", 2)
    site.add_project("birds", "true\n")
    file = tmp_path / "birds.csv"
    for text, words in {
        "name,mass:float\na,1\nb,1\n\nc,heavy\n!!,2\n": ["line 5: attributes: mass: A valid number", "line 6: name:"],
        "name,latitude,longitude\na,91,0\n": ["line 2: attributes: location:"],
        "name,base_file_path\na,other/x\n": ["line 2: base_file_path:", "birds/..."],
        "name,base_file_path\na,birds/x\nb,\nc,\nd,birds/x\n": [
            "nothing was added",
            "line 5: base_file_path:",
            "line 2",
        ],
        "name,base_file_path\n!,\nb,\nd,other/x\n": ["line 2: name:", "line 4: base_file_path:"],
        "name,n\na,1\nb,1\nc,1\nA,2\n": ["nothing was added", "line 5: name: 'A' and 'a' of line 2"],
        "name,n\n,1\n": ["line 2: a dataset needs a name"],
        "name\n": ["there is no dataset in it"],
    }.items():
        file.write_text(text)
        code, out, err = crunch("import", str(file), "--project", "birds")
        assert (code, out) == (2, ""), text
        assert str(file) in err
        assert all(word in err for word in words), err
    (tmp_path / "birds.jsonl").write_text(f'{{"name": "a", "attributes": {{"n": {10**30}}}}}')
    assert "n:char in a CSV's header" in crunch("import", str(tmp_path / "birds.jsonl"), "--project", "birds")[2]
    assert not list(site.client.pages("api/datasets/"))
    file.write_text("name\na\n")
    (tmp_path / "birds").write_bytes(b"\xff")
    for words, said in {
        (str(file), "--project", "nope"): "'nope'",
        (str(tmp_path / "birds"), "--project", "birds"): "--format",
        (str(tmp_path / "birds"), "--project", "birds", "--format", "csv"): "not text in UTF-8",
        (str(tmp_path / "none.csv"), "--project", "birds"): "none.csv",
    }.items():
        code, out, err = crunch("import", *words)
        assert code in (1, 2), words
        assert said in err, words


def test_what_was_added_before_a_refusal_is_told_and_the_same_file_goes_on(
    site: Site, crunch: Callable[..., Answer], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exchange, "AT_ONCE", 2)
    site.add_project("birds", "true\n")
    file = tmp_path / "birds.csv"
    # A folder that is asked for is not given to one of an earlier line, which would have it otherwise.
    file.write_text("name,base_file_path\na,\nb,\nc,birds/a\nd,birds/x\ne,birds/y\n")
    create, sent = CrunchClient.create_datasets, 0

    def meanwhile(self: CrunchClient, *words: object, dry_run: bool, **values: bool) -> object:
        nonlocal sent
        sent += not dry_run
        if sent == 2:
            sent += 1
            site.client.create_dataset(parent="birds", name="other", base_file_path="birds/y")
        return create(self, *words, dry_run=dry_run, **values)

    monkeypatch.setattr(CrunchClient, "create_datasets", meanwhile)
    code, _, err = crunch("import", str(file), "--project", "birds")
    assert code == 2
    assert "3 datasets were added, not all. Import the file again" in err
    assert "line 6: base_file_path: 'birds/y' would share files" in err
    file.write_text(file.read_text().replace("birds/y", "birds/z"))
    code, out, err = crunch("import", str(file), "--project", "birds")
    assert (code, sorted(out.split())) == (0, ["birds:a", "birds:e"]), err
    assert site.dataset("birds:c")["base_file_path"] == "birds/a"


def test_projects_and_datasets_are_listed(site: Site, crunch: Callable[..., Answer]) -> None:
    for name in ("birds", "fish"):
        site.add_project(name, "true\n")
    site.client.create_datasets("birds", [{"name": f"d{number:02}", "locked": number == 3} for number in range(25)])
    site.client.create_dataset(parent="fish", name="cod")
    assert crunch("list")[1].splitlines()[1:] == [
        "private     script         birds",
        "private     script         fish",
    ]
    listed = crunch("list", "--project", "birds")[1].splitlines()
    assert len(listed) == 26
    assert listed[0].split() == ["state", "held", "attempt", "slug"]
    assert listed[4].split() == ["unprocessed", "held", "0", "birds:d03"]
    assert len(json.loads(crunch("list", "--state", "unprocessed", "--json")[1])) == 26
    assert crunch("list", "--project", "birds", "--state", "failed")[:2] == (0, "")
    code, _, err = crunch("list", "--project", "nope")
    assert (code, "no project 'nope'" in err) == (2, True)


@pytest.mark.parametrize("size", [1, 300_000])
@pytest.mark.parametrize("command", [("export",), ("export", "--format", "jsonl"), ("list", "--json")])
def test_who_stops_reading_ends_a_command_without_a_word(site: Site, command: tuple[str, ...], size: int) -> None:
    project = site.add_project(f"p{size}", "true\n")
    site.client.create_datasets(project, [{"name": "d", "details": "x" * size}], skip_existing=True)
    reader, writer = os.pipe()
    os.close(reader)
    words = [CRUNCH, *command, "--project", project]
    ended = subprocess.run(words, env=site.env, stdout=writer, stderr=subprocess.PIPE, text=True, check=False)
    os.close(writer)
    assert (ended.returncode, ended.stderr) == (128 + signal.SIGPIPE, "")
