"""Snakemake as a child process: progress, failures that name the rule, and going on after a kill."""

from __future__ import annotations

import contextlib
import json
import logging
import math
import os
import textwrap

import psutil
import pytest

from crunch_tasks.compute.environment import workflow_environment
from crunch_tasks.compute.snakemake import Events, is_locked, job_spans, run_snakemake, whole_before
from crunch_tasks.errors import Cancelled, WorkflowFailed
from snakemake_logger_plugin_crunch import LogHandler, LogHandlerSettings

slow = pytest.mark.slow


class Workflow:
    def __init__(self, folder):
        self.folder = folder / "work space"
        self.folder.mkdir()
        self.state = folder / "state"
        self.steps = []

    def __call__(self, text, *, snakefile=None, **options):
        snakefile = snakefile or self.folder / ".crunch" / "Snakefile"
        snakefile.parent.mkdir(exist_ok=True)
        snakefile.write_text(textwrap.dedent(text))
        options = {"check": lambda: None, "timeout_s": None, **options}
        run_snakemake(
            snakefile,
            directory=self.folder,
            cores=1,
            env=workflow_environment(os.environ),
            log=self.state / "workflow.log",
            events=self.state / "events.jsonl",
            progress=lambda *step: self.steps.append(step),
            **options,
        )

    def read(self, name):
        return (self.folder / name).read_text()


@pytest.fixture
def workflow(tmp_path):
    return Workflow(tmp_path)


@slow
def test_a_good_run_tells_its_progress(workflow):
    # A file of the dataset that has the name of a module must not come between.
    (workflow.folder / "json.py").write_text("raise SystemExit('shadowed')")
    workflow(
        """
        rule all:
            input: "b.txt"
        rule first:
            output: "a.txt"
            shell: "echo a > {output}"
        rule second:
            input: "a.txt"
            output: "b.txt"
            shell: "cat {input} > {output}; echo b >> {output}"
        """
    )
    assert workflow.read("b.txt") == "a\nb\n"
    assert workflow.steps[-1] == (3, 3, "all")


@slow
def test_a_failing_rule_is_named_with_the_end_of_its_log_and_of_stderr(workflow):
    with pytest.raises(WorkflowFailed) as caught:
        workflow(
            """
            rule bad:
                output: "out.txt"
                log: "logs/bad.log"
                shell: "echo in the log > {log}; echo on stderr >&2; exit 3"
            """
        )
    note = str(caught.value)
    assert note.startswith("Snakemake ended with exit code 1.")
    assert "Rule bad failed." in note
    assert "End of its log logs/bad.log:\nin the log" in note
    assert "on stderr" in note


@slow
@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("rule a\n    output: 'x'\n", "SyntaxError"),
        ("rule a:\n    input: 'nonesuch.txt'\n", "nonesuch.txt"),
        ("x = 1/0", "Zero"),
    ],
)
def test_a_snakefile_that_cannot_run_fails_with_snakemakes_words(workflow, text, why):
    with pytest.raises(WorkflowFailed, match=why):
        workflow(text)


@slow
def test_after_a_kill_it_goes_on_without_lock_error_and_redoes_nothing(workflow):
    text = """
        rule all:
            input: "b.txt"
        rule first:
            output: "a.txt"
            shell: "echo run >> first.count; echo a > {output}"
        rule second:
            input: "a.txt"
            output: "b.txt"
            shell: "echo half > {output}; touch begun; while [ ! -e go ]; do sleep 0.02; done; echo whole > {output}"
        """

    def kill_all_when_begun():
        if (workflow.folder / "begun").exists():
            # All at once, as far as they can tell: none is to see another one die and clean up.
            family = psutil.Process().children(recursive=True)
            for child in family:
                with contextlib.suppress(psutil.NoSuchProcess):
                    child.suspend()
            for child in family:
                with contextlib.suppress(psutil.NoSuchProcess):
                    child.kill()
            raise Cancelled

    with pytest.raises(Cancelled):
        workflow(text, check=kill_all_when_begun)
    assert is_locked(workflow.folder)
    (workflow.folder / "go").touch()
    workflow(text)
    assert workflow.read("b.txt") == "whole\n"
    assert workflow.read("first.count") == "run\n"
    assert not is_locked(workflow.folder)


@slow
def test_a_snakefile_elsewhere_finds_its_own_files(workflow, tmp_path):
    project = tmp_path / "project"
    (project / "scripts").mkdir(parents=True)
    (project / "rules.smk").write_text('rule a:\n    output: "a.txt"\n    script: "scripts/a.py"\n')
    (project / "scripts" / "a.py").write_text("open(snakemake.output[0], 'w').write('made')")
    workflow('include: "rules.smk"\nrule all:\n    input: "a.txt"\n', snakefile=project / "Snakefile")
    assert workflow.read("a.txt") == "made"
    assert not (project / ".snakemake").exists()


def test_half_a_line_of_events_waits_for_its_other_half(tmp_path):
    seen = []
    events = Events(tmp_path / "events", lambda *step: seen.append(step))
    events.poll()
    with (tmp_path / "events").open("ab") as file:
        file.write(b'{"event": "progress", "done": 1, "total": 2}\n{"event": "progr')
        file.flush()
        events.poll()
        events.poll()
        file.write(b'ess", "done": 2, "total": 2}\n')
        file.flush()
        events.poll()
    assert seen == [(1, 2, ""), (2, 2, "")]


@pytest.mark.parametrize("path", ["", "/none/such/folder/events", "/dev/full"])
def test_the_plugin_never_raises_whatever_its_file_and_the_event(path):
    handler = LogHandler(None, LogHandlerSettings(events=path))
    for extra in ({}, {"event": "progress"}, {"event": "job_error", "log": object()}, {"event": "news"}):
        handler.emit(logging.makeLogRecord(extra))
    handler.close()
    handler.emit(logging.makeLogRecord({"event": "progress"}))


@pytest.mark.parametrize(
    ("events", "up_to", "whole"),
    [
        ([], math.inf, math.inf),
        ([("start", 1, 5.0), ("end", 1, 7.0)], math.inf, math.inf),
        # One that never ended.
        ([("start", 1, 5.0), ("end", 1, 7.0), ("start", 2, 8.0)], math.inf, 8.0),
        # One that had begun before that and ended after it counts as not finished too, and so on.
        ([("start", 1, 5.0), ("start", 2, 6.0), ("end", 1, 7.0)], math.inf, 5.0),
        ([("start", 1, 1.0), ("start", 2, 3.0), ("end", 1, 4.0), ("start", 3, 5.0), ("end", 2, 6.0)], math.inf, 1.0),
        ([("start", 1, 1.0), ("end", 1, 2.0), ("start", 2, 3.0), ("end", 2, 4.0)], 3.5, 3.0),
        ([("start", 1, 1.0), ("end", 1, 2.0), ("start", 2, 3.0), ("end", 2, 4.0)], 2.5, 2.5),
    ],
)
def test_what_was_whole_is_what_no_job_was_at_work_on(tmp_path, events, up_to, whole):
    def line(kind, job, at):
        what = {"event": "job_started", "jobs": [job]} if kind == "start" else {"event": "job_finished", "job_id": job}
        return json.dumps({**what, "time": at})

    lines = [line(*event) for event in events]
    (tmp_path / "events").write_text("\n".join([*lines, '{"event": "job_star']))
    assert whole_before(job_spans(tmp_path / "events"), up_to) == whole
    assert whole_before(job_spans(tmp_path / "none"), up_to) == up_to
