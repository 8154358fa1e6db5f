"""The commands around a run: the catalogue, files, diagnostics, help; what is asked for at a terminal."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from crunch_tasks.contract import ATTRIBUTE_KINDS, DIAGNOSTICS, ClaimRequest, Stage, State, StatusEvent
from tests.acceptance.conftest import Answer
from tests.support.site import CRUNCH, Site


def test_the_catalogue_is_filled_from_the_command_line(
    site: Site, crunch: Callable[..., Answer], tmp_path: Path
) -> None:
    kept = "#!/bin/bash\r\n\techo 'ä' \n\n  \n"
    (tmp_path / "work.sh").write_bytes(kept.encode())
    (tmp_path / "Snakefile.birds").write_bytes(b"rule all: \n")
    (tmp_path / "birds.smk").write_bytes(b"rule all:\n")
    (tmp_path / "blank.sh").write_bytes(b" \n\t\n")

    assert crunch("add-project", "A B", "--workflow-file", str(tmp_path / "work.sh"), "--details", " # T \n")[:2] == (
        0,
        "a-b\n",
    )
    project = site.client.get_project("a-b")
    assert (project["workflow"], project["workflow_type"], project["details"]) == (kept, "script", " # T \n")
    for name in ("Snakefile.birds", "birds.smk"):
        slug = crunch("add-project", name, "--workflow-file", str(tmp_path / name))[1].strip()
        assert site.client.get_project(slug)["workflow_type"] == "snakemake", name
    forced = crunch(
        "add-project",
        "F",
        "--workflow-file",
        str(tmp_path / "birds.smk"),
        "--workflow",
        "script",
        "--needs",
        "memory=2GB",
    )[1]
    project = site.client.get_project(forced.strip())
    assert (project["workflow_type"], project["needs"]) == ("script", "memory=2GB")

    code, out, err = crunch("add-dataset", "a-b", "one", "--description", "d", "--locked", "--needs", "GPUS=1,fast")
    made = site.dataset("a-b:one")
    assert (code, out) == (0, "a-b:one\n")
    assert (made["locked"], made["description"], made["needs"]) == (True, "d", "gpus=1 fast")
    assert f"{made['base_file_path']}/" in err
    assert crunch("add-item", "a-b:one", "sample")[1] == "a-b:one:sample\n"
    assert [item["slug"] for item in site.dataset("a-b:one")["items"]] == ["a-b:one:sample"]

    for words, said in {
        ("add-dataset", "none", "x"): "none",
        ("add-dataset", "a-b", "one"): "one",
        ("add-project", "X", "--workflow-file", str(tmp_path / "missing.sh")): "missing.sh",
        ("add-project", "X", "--workflow-file", str(tmp_path / "blank.sh")): "blank.sh: the file is empty",
        ("add-project", "X", "--needs", "gpus=many"): "--needs: 'gpus=many': a whole number is needed",
        ("add-dataset", "a-b", "two", "--needs", "gpus=many"): "--needs: 'gpus=many': a whole number is needed",
        ("add-project", "X", "--workflow", "perl"): "perl",
        ("add-project", "X", "--visibility", "all"): "all",
    }.items():
        code, out, err = crunch(*words)
        assert (code, out) == (2, ""), words
        assert said in err, words


GOOD = {
    "char": [(" [red]x ",), ("",)],
    "float": [("-1.5e-3",)],
    "int": [("-42",)],
    "filesize": [("0",)],
    "bool": [("true",), ("No",)],
    "date": [("2026-02-28",)],
    "datetime": [("2026-02-28T12:30:00+02:00",)],
    "url": [("https://example.org/?a=b",)],
    "lat-long": [("-33.868801", "-151.2")],
}
READ_BACK = {
    "float": [-0.0015],
    "int": [-42],
    "filesize": [0],
    "bool": [True, False],
    "datetime": ["2026-02-28T10:30:00Z"],
}
BAD = {
    "char": [("x" * 2000, "1023")],
    "float": [("fast", "fast"), ("nan", "nan"), ("-inf", "-inf"), ("1e999", "1e999")],
    "int": [("1.5", "1.5"), (str(2**63), "value")],
    "filesize": [("-1", "value"), ("1kB", "1kB")],
    "bool": [("perhaps", "perhaps")],
    "date": [("2026-02-30", "2026-02-30")],
    "datetime": [("soon", "soon")],
    "url": [("javascript:alert(1)", "value"), ("nowhere", "value")],
    "lat-long": [("north", "north"), ("-90.5", "latitude")],
}


def test_every_kind_of_attribute_makes_the_round_trip_and_a_wrong_value_is_named(
    site: Site, crunch: Callable[..., Answer]
) -> None:
    assert GOOD.keys() == BAD.keys() == {kind.name for kind in ATTRIBUTE_KINDS}
    slug = site.add_dataset(site.add_project("P", ""), "one", {})
    for kind in ATTRIBUTE_KINDS:
        command = f"add-{kind.word}-attribute"
        for number, words in enumerate(GOOD[kind.name]):
            assert crunch(command, slug, f"{kind.name} {number}", *words) == (0, "", ""), kind.name
        for text, said in BAD[kind.name]:
            more = ["0"] if kind.name == "lat-long" else []
            code, out, err = crunch(command, slug, "bad", text, *more)
            assert (code, out) == (2, ""), (kind.name, text, err)
            assert said in err, (kind.name, text, err)

    read = {entry["key"]: entry for entry in site.dataset(slug)["attributes"]}
    place = read.pop("lat-long 0")
    assert (float(place["latitude"]), float(place["longitude"])) == (-33.868801, -151.2)
    expected = {
        f"{name} {number}": READ_BACK.get(name, [words[0] for words in GOOD[name]])[number]
        for name in GOOD.keys() - {"lat-long"}
        for number, words in enumerate(GOOD[name])
    }
    assert {key: entry["value"] for key, entry in read.items()} == expected
    assert crunch("add-char-attribute", "no:such", "k", "v")[0] == 2


def test_files_are_listed_before_and_after_a_run_whatever_they_are_called(
    site: Site, crunch: Callable[..., Answer]
) -> None:
    names = ["[red]x[/red]", ":smile: [link=x]y", "right\u202eleft", "a b/ä #%.txt", "x" * 250]
    slug = site.add_dataset(site.add_project("P", "#!/bin/bash\necho 1 > new\necho 2 >> 'a b/ä #%.txt'\n"), "one", {})
    assert json.loads(crunch("files", slug, "--json")[1]) == []
    assert crunch("files", slug)[1] == "p:one: 0 files, 0 bytes, as in the storage\n"
    base = site.dataset(slug)["base_file_path"]
    for name in names:
        site.storage.write(f"{base}/{name}", b"12345")

    listed = json.loads(crunch("files", slug, "--json")[1])
    assert [row["path"] for row in listed] == sorted(names)
    assert {row["size"] for row in listed} == {5}
    code, out, _ = crunch("files", slug)
    assert code == 0
    for shown in ("[red]x[/red]", ":smile: [link=x]y", "right\\u202eleft", "a b/ä #%.txt", "5 files"):
        assert shown in out
    # Folded, but whole.
    assert out.count("x") >= 250
    assert "\u202e" not in out

    site.crunch("next")
    listed = {row["path"]: row for row in json.loads(crunch("files", slug, "--json")[1])}
    assert listed.keys() == {*names, "new"}
    assert (listed["a b/ä #%.txt"]["size"], listed["new"]["size"]) == (7, 2)
    assert all(re.fullmatch("[0-9a-f]{32}", row["md5"]) for row in listed.values())

    fresh = site.add_dataset("p", "two", {"input": b""})
    folder = site.storage_settings.parent / "storage" / site.dataset(fresh)["base_file_path"]
    for name in ("line\nbreak", "\x1b[31mred"):
        (folder / name).touch()
    code, out, err = crunch("files", fresh)
    assert code == 0
    assert "line\\nbreak" in out and "\\x1b[31mred" in out and "input" in out
    # A run would refuse them.
    assert "'line\\nbreak' cannot be kept" in err and "'\\x1b[31mred' cannot be kept" in err
    assert "\x1b" not in out + err
    assert crunch("files", "no:such")[0] == 2


def test_what_a_workflow_or_a_server_says_is_shown_and_not_obeyed(site: Site) -> None:
    project = site.add_project("P", "#!/bin/bash\nprintf '\\e]0;owned\\a[red]:smile:[/red]\\n' >&2\nexit 1\n")
    site.add_dataset(project, "one", {"x": b""})
    done = site.crunch("next", code=1)
    assert "\x1b" not in done.stderr and "\x07" not in done.stderr
    assert "[red]:smile:[/red]" in done.stderr


def test_diagnostics_are_what_the_server_is_told(crunch: Callable[..., Answer]) -> None:
    facts = json.loads(crunch("diagnostics", "--json")[1])
    assert {"hostname", "memory_total", "disk_free", "agent_user"} <= facts.keys() <= DIAGNOSTICS.keys()
    assert all(isinstance(value, DIAGNOSTICS[name]) for name, value in facts.items())
    out = crunch("diagnostics")[1]
    assert facts["hostname"] in out and "disk_free" in out


ALL_HELP = """
import sys
from typer.main import get_command
from typer.testing import CliRunner
from flows.cli import app
names = list(get_command(app).commands)
for words in [[], *([name] for name in names)]:
    answer = CliRunner().invoke(app, [*words, "--help"])
    assert answer.exit_code == 0 and "Usage" in answer.output, (words, answer.output)
heavy = ("prefect", "django", "snakemake", "obstore", "storages", "boto3", "httpx", "server")
print(len(names), *[name for name in heavy if name in sys.modules])
"""


def test_help_of_every_command_needs_nothing_heavy() -> None:
    done = subprocess.run([sys.executable, "-c", ALL_HELP], capture_output=True, text=True, check=False)
    assert done.stdout.split() == [str(23 + len(ATTRIBUTE_KINDS))], done.stderr


@pytest.mark.parametrize("module", ["run", "next", "loop"])
def test_each_flow_is_a_command_too(module: str) -> None:
    command = [sys.executable, "-m", f"flows.{module}"]
    done = subprocess.run([*command, "--help"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert f"crunch {module}" in done.stdout and "--storage-settings" in done.stdout
    assert done.stderr == ""


def at_a_terminal(environment: dict[str, str], words: list[str], answers: dict[str, str]) -> tuple[int, str]:
    """`crunch WORDS` at a terminal of its own; each question that appears gets its answer. Exit code and screen."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.execve(CRUNCH, [CRUNCH, *words], environment)
    screen, left = "", dict(answers)
    while select.select([terminal], [], [], 60)[0]:
        try:
            screen += os.read(terminal, 4096).decode()
        except OSError:
            break
        for question in [question for question in left if question in screen]:
            os.write(terminal, f"{left.pop(question)}\n".encode())
    assert not left, screen
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), screen


def test_missing_settings_are_asked_for_at_a_terminal_and_the_token_is_not_shown(site: Site) -> None:
    slug = site.add_dataset(site.add_project("P", "#!/bin/bash\necho 1 > new\n"), "one", {"input": b"x"})
    token = site.env["CRUNCH_TOKEN"]
    bare = {name: value for name, value in site.env.items() if not name.startswith("CRUNCH_")}
    bare["CRUNCH_DIRECTORY"] = str(site.directory)
    answers = {
        "Address of the Crunch server: ": site.server.url,
        "Your token on the server: ": token,
        "storage settings file: ": str(site.storage_settings),
    }
    code, screen = at_a_terminal(bare, ["files", slug], answers)
    assert code == 0, screen
    assert "input" in screen and token not in screen

    code, screen = at_a_terminal(bare, ["next"], answers)
    assert code == 0, screen
    assert token not in screen and "completed" in screen
    assert site.dataset(slug)["state"] == "completed"

    code, screen = at_a_terminal(
        bare,
        ["files", slug, "--url", "http://127.0.0.1:1"],
        {"Your token on the server: ": "\u00e4"} | {"storage settings file: ": str(site.storage_settings)},
    )
    assert code == 2, screen
    assert "Traceback" not in screen and "--token" in screen


def test_failed_datasets_are_retried(site: Site, crunch: Callable[..., Answer]) -> None:
    project = site.add_project("Birds", "true")
    for name in ("a", "b", "c"):
        slug = site.add_dataset(project, name, {})
        if name != "c":
            claim = site.client.claim(ClaimRequest(name, dataset=slug))
            assert claim is not None
            fail = {"event_id": name, "site": claim.site, "claim": claim.claim, "fence": claim.fence}
            site.client.post_status(
                StatusEvent(**fail, dataset=claim.dataset["id"], stage=Stage.SETUP, state=State.FAIL)
            )

    def states() -> list[str]:
        return [site.dataset(f"birds:{name}")["state"] for name in "abc"]

    asked = crunch("retry", "--failed", "--project", "birds", "--dry-run")
    assert asked == (0, "birds:a\nbirds:b\n", "2 datasets would be unprocessed again.\n")
    code, out, _ = crunch("retry", "birds:a", "--dry-run", "--json")
    assert (code, json.loads(out)) == (0, {"dry_run": True, "count": 1, "datasets": ["birds:a"], "held": 0})
    assert states() == ["failed", "failed", "unprocessed"]

    site.client.hold("birds:a", locked=True)
    assert crunch("retry", "birds:a") == (0, "birds:a\n", "1 dataset is unprocessed again; it is held: let it go.\n")
    assert crunch("retry", "birds:c") == (0, "", "birds:c is unprocessed already.\n")
    assert crunch("retry", "--failed", "--project", "birds")[:2] == (0, "birds:b\n")
    assert crunch("retry", "--failed", "--project", "birds") == (0, "", "No dataset of birds has failed.\n")
    assert states() == ["unprocessed"] * 3

    site.client.claim(ClaimRequest("running", dataset="birds:b"))
    for words, code, said in (
        (("birds:b",), 1, "birds:b is being processed. Cancel its run"),
        (("birds:none",), 2, "birds:none"),
        (("--failed", "--project", "none"), 2, "none"),
        (("a/b?c",), 2, "looks like PROJECT:DATASET"),
        ((), 2, "Name a dataset, or give --failed"),
        (("birds:a", "--failed"), 2, "not both"),
        (("birds:a", "--project", "birds"), 2, "--project goes with --failed"),
        (("--failed",), 2, "--failed needs the --project"),
    ):
        answer = crunch("retry", *words)
        assert answer[:2] == (code, ""), words
        assert said in answer[2], words


@pytest.mark.parametrize("command", ["sync", "clean"])
def test_what_is_said_of_a_directory_is_said_of_one_that_is_there_and_with_the_server(
    site: Site, crunch: Callable[..., Answer], tmp_path: Path, command: str
) -> None:
    code, _, said = crunch(command, "--directory", str(tmp_path / "none"))
    assert (code, "There is no directory" in said) == (2, True)
    site.directory.mkdir()
    code, _, said = crunch(command, "--token", "wrong")
    assert (code, "does not accept the token" in said) == (2, True)
    assert crunch(command)[0] == 0
