"""Scripts run as they are, or it is said exactly why not."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import pytest

from crunch_tasks.compute.environment import workflow_environment
from crunch_tasks.compute.notes import failure_note
from crunch_tasks.compute.process import Outcome
from crunch_tasks.compute.script import interpreter, run_script, script_command
from crunch_tasks.contract import NOTE_BYTES
from crunch_tasks.errors import WorkflowFailed


@pytest.mark.parametrize(
    ("head", "words"),
    [
        (b"echo hi\n", ("bash",)),
        (b"\n#!/bin/sh\n", ("bash",)),
        (b"#!/bin/sh\n", ("/bin/sh",)),
        (b"#!/bin/sh", ("/bin/sh",)),
        (b"#! /bin/sh  \n", ("/bin/sh",)),
        (b"#!/usr/bin/env python3\n", ("/usr/bin/env", "python3")),
        (b"#!/usr/bin/env -S python3 -u \nx", ("/usr/bin/env", "-S python3 -u")),
        (b"#!/bin/sh\ntail -n +3 $0 | tar x\n\x00\x01", ("/bin/sh",)),
        ("\N{BYTE ORDER MARK}echo".encode(), ("bash",)),
    ],
)
def test_the_first_line_says_what_runs_a_script(head, words):
    assert interpreter(head) == words


@pytest.mark.parametrize(
    ("head", "why"),
    [
        (b"", "is empty"),
        (b" \r\n\t\n", "is empty"),
        (b"\x7fELF\x02\x01\x01\x00", "compiled program"),
        (b"abc\x00def", "binary"),
        (b"#!/bin/\x00sh\n", "binary"),
        ("echo hi\n".encode("utf-16"), "UTF-16"),
        (b"\xef\xbb\xbf#!/bin/sh\n", "byte order mark"),
        (b"#!/bin/sh\r\necho\r\n", r"CR LF.*sed -i"),
        (b"echo hi\r\n", r"CR LF.*sed -i"),
        (b"#!\necho", "names no interpreter"),
    ],
)
def test_what_cannot_run_is_refused_with_the_reason(head, why):
    with pytest.raises(WorkflowFailed, match=why):
        interpreter(head)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("#!/opt/none/python\n", r"/opt/none/python .*not installed.*#!/usr/bin/env python"),
        ("#!python3\n", r"without its folder.*#!/usr/bin/env python3"),
        ("#!/usr/bin/env nonesuch-3\n", r'"nonesuch-3".*not on PATH'),
    ],
)
def test_an_interpreter_that_is_missing_is_named(tmp_path, text, why):
    script = tmp_path / "script.sh"
    script.write_text(text)
    with pytest.raises(WorkflowFailed, match=why):
        script_command(script)


def test_the_command_has_absolute_paths_whatever_the_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "-rf *").write_text("true")
    program, script = script_command(Path("-rf *"))
    assert Path(program).is_absolute()
    assert script == str(tmp_path / "-rf *")


def run(tmp_path, text, timeout_s=None, **environment):
    script = tmp_path / "script.sh"
    script.write_bytes(text if isinstance(text, bytes) else text.encode())
    log = tmp_path / "logs" / "workflow.log"
    env = {**workflow_environment(os.environ, dataset="p:d", cores=3), **environment}
    run_script(script, directory=tmp_path, env=env, log=log, timeout_s=timeout_s, check=lambda: None)
    return log.read_text()


def test_a_script_runs_without_the_executable_bit_in_its_folder(tmp_path):
    text = (
        f'#!{sys.executable}\nimport os\nprint(os.getcwd(), os.environ["CRUNCH_DATASET"], os.environ["CRUNCH_CORES"])\n'
    )
    assert run(tmp_path, text) == f"{tmp_path} p:d 3\n"


def test_this_pythons_commands_are_found_first(tmp_path):
    assert run(tmp_path, "command -v python", PATH=workflow_environment({})["PATH"]) == (
        f"{Path(sys.executable).parent}/python\n"
    )


def test_a_failing_script_fails_with_its_code_and_the_end_of_stderr(tmp_path):
    with pytest.raises(WorkflowFailed) as caught:
        run(tmp_path, "echo first\nfor i in $(seq 1000); do echo line $i >&2; done\nexit 3")
    note = str(caught.value)
    assert note.startswith("The script ended with exit code 3.")
    assert note.endswith("line 999\nline 1000")
    assert "first" not in note


def test_a_killed_script_fails_with_the_signal(tmp_path):
    with pytest.raises(WorkflowFailed, match=r"SIGKILL \(signal 9\).*Memory may have run out"):
        run(tmp_path, "kill -KILL $$")
    with pytest.raises(WorkflowFailed, match="exit code 139, as after SIGSEGV in one of its commands"):
        run(tmp_path, "bash -c 'kill -SEGV $$'\nexit $?")


def test_a_script_has_no_input(tmp_path):
    assert run(tmp_path, "cat; echo end") == "end\n"


def test_a_hanging_script_ends_with_its_time(tmp_path):
    with pytest.raises(WorkflowFailed, match=r"longer than its limit of 0\.5 s") as caught:
        run(tmp_path, "echo begun\nsleep 600", timeout_s=0.5)
    assert "begun" in str(caught.value)


def test_output_need_not_be_text(tmp_path):
    with pytest.raises(WorkflowFailed, match="exit code 1") as caught:
        run(tmp_path, b"printf 'a\\xff\\x00b\\n'; exit 1")
    assert str(caught.value).endswith("a\N{REPLACEMENT CHARACTER}b")


# --- notes and environment ---


def test_a_note_is_capped_and_keeps_what_happened_and_the_last_line():
    outcome = Outcome(1, None, False, "\n".join("y" * 500 for _ in range(100)) + "\nthe last line")
    note = failure_note("The script", outcome)
    assert len(note.encode()) <= NOTE_BYTES
    assert note.startswith("The script ended with exit code 1.")
    assert note.endswith("the last line")


def test_a_note_without_output_says_so():
    assert "no output" in failure_note("The script", Outcome(None, signal.SIGTERM, False, ""))


def test_a_workflow_sees_the_users_environment_but_nothing_of_ours():
    environ = {
        "HOME": "/home/a",
        "PATH": "/usr/bin",
        "CRUNCH_TOKEN": "t",
        "CRUNCH_STORAGE_SETTINGS": "/s.toml",
        "PREFECT_API_KEY": "k",
        "PREFECT__FLOW_RUN_ID": "x",
        "AWS_SECRET_ACCESS_KEY": "canary-secret-1",
        "DATABASE": "postgresql://u:canary-secret-1@h/db",
        "SHORT": "abc",
        "CONTAINS": "xabcx",
    }
    seen = workflow_environment(
        environ,
        dataset="p:d",
        project="p",
        workspace="/w",
        cores=2,
        secrets=["canary-secret-1", "abc", "", "never-there"],
    )
    tools = Path(sys.executable).parent
    assert seen == {
        "HOME": "/home/a",
        "PATH": f"{tools}{os.pathsep}/usr/bin",
        "CONTAINS": "xabcx",
        "CRUNCH_DATASET": "p:d",
        "CRUNCH_PROJECT": "p",
        "CRUNCH_WORKSPACE": "/w",
        "CRUNCH_CORES": "2",
    }
