"""What fails, fails: a Fail with the reason in its note, a non-zero exit code, nothing published."""

from __future__ import annotations

import json

from tests.support.site import Site

FAILED_WORKFLOW = [(1, 1), (1, 2), (2, 1), (2, 3)]
FAILED_SETUP = [(1, 1), (1, 3)]

CASES = {
    "a failing script": (
        "script",
        "#!/bin/bash\necho the reason >&2\nexit 7\n",
        FAILED_WORKFLOW,
        ["exit code 7", "the reason"],
    ),
    "a script killed": ("script", "#!/bin/bash\nkill -9 $$\n", FAILED_WORKFLOW, ["SIGKILL"]),
    "a script without a shebang": ("script", "false\n", FAILED_WORKFLOW, ["exit code 1"]),
    "no workflow": ("script", "", FAILED_SETUP, ["has no workflow"]),
    "Windows line ends": ("script", "#!/bin/bash\r\necho hi\r\n", FAILED_SETUP, ["Windows line ends"]),
    "no such interpreter": ("script", "#!/no/such/shell\n", FAILED_WORKFLOW, ["/no/such/shell"]),
    "a failing rule": (
        "snakemake",
        "rule broken:\n    output: 'x'\n    log: 'broken.log'\n    shell: 'echo deep reason > {log}; exit 3'\n",
        FAILED_WORKFLOW,
        ["Rule broken failed", "deep reason"],
    ),
    "a missing input": (
        "snakemake",
        "rule all:\n    input: 'nowhere.txt'\n",
        FAILED_WORKFLOW,
        ["nowhere.txt"],
    ),
    "a syntax error": ("snakemake", "rule all\n    input:\n", FAILED_WORKFLOW, ["SyntaxError"]),
    "a hang": ("script", "#!/bin/bash\ncat\nsleep 1000\n", FAILED_WORKFLOW, ["longer than its limit of 1 s"]),
    "binary output": (
        "script",
        "#!/bin/bash\nhead -c 100000 /dev/urandom\nprintf 'nul\\0 and \\377'\nexit 1\n",
        FAILED_WORKFLOW,
        ["exit code 1"],
    ),
}


def test_each_failure_is_told_and_publishes_nothing(site: Site) -> None:
    slugs = {}
    for number, (case, (kind, workflow, _, _)) in enumerate(CASES.items()):
        limit = 1 if case == "a hang" else 60
        project = site.add_project(f"P{number}", workflow, workflow_type=kind, workflow_timeout_s=limit)
        slugs[case] = site.add_dataset(project, "one", {"input.txt": b"x"})

    outcome = json.loads(site.crunch("loop", "--json", code=1).stdout)

    assert [run["result"] for run in outcome["runs"]] == ["failed"] * len(CASES)
    for case, (_, _, statuses, said) in CASES.items():
        slug = slugs[case]
        assert site.statuses(slug, effective=False) == statuses, case
        for words in said:
            assert words in site.notes(slug)[-1], case
        assert site.dataset(slug)["state"] == "failed", case
        assert site.files(slug) == {"input.txt": b"x"}, case
    assert b"the reason" in site.read(slugs["a failing script"], ".crunch/attempts/1/logs/workflow.log")
    told = site.crunch("logs", slugs["a failing script"]).stdout
    assert "Setup Success" in told
    assert "the reason" in told.partition("Workflow Fail")[2].partition("==> workflow.log <==")[2]


def test_no_files_is_a_failure_unless_the_user_says_that_empty_is_fine(site: Site) -> None:
    project = site.add_project("P", "#!/bin/bash\necho made > made.txt\n")
    slug = site.add_dataset(project, "one", {})
    site.crunch("next", code=1)
    assert "no files under 'p/one/'" in site.notes(slug)[-1]

    site.crunch("run", slug, "--allow-empty")
    assert site.files(slug) == {"made.txt": b"made\n"}


def test_wrong_settings_end_with_a_sentence_and_exit_code_2(site: Site, tmp_path) -> None:
    def said(*words: str, code: int = 2, **environment: str) -> str:
        return site.crunch(*words, code=code, **environment).stderr

    bad = tmp_path / "bad.toml"
    bad.write_text('MEDIA_ROOT = "x"\nAWS_LOCATION = "y"\n')
    assert f"{bad}, line 2: AWS_LOCATION" in said("next", "--storage-settings", str(bad))
    assert "there is no such" in said("next", CRUNCH_STORAGE_SETTINGS=str(tmp_path / "none.toml"))
    assert "--token" in said("next", CRUNCH_TOKEN="")
    assert "does not accept the token" in said("next", CRUNCH_TOKEN="wrong")
    assert "There is no dataset 'no:such'" in said("run", "no:such")
    for command in ("loop", "list", "export"):
        assert "There is no project 'none'" in said(command, "--project", "none"), command
    assert "there is no file" in said("next", "--path", str(tmp_path / "none.sh"))
    assert "not a web address" in said("next", "--url", "nonsense")
    unmounted = tmp_path / "unmounted.toml"
    unmounted.write_text(f'MEDIA_ROOT = "{tmp_path / "unmounted"}"\n')
    waits = site.add_dataset(site.add_project("Waits", "true\n"), "one", {"input": b"x"})
    assert "is not there. Mount it" in said("loop", "--storage-settings", str(unmounted), code=1)
    assert site.dataset(waits)["state"] == "unprocessed"
    (tmp_path / "a-file").touch()
    assert "cannot be written" in said("next", "--directory", str(tmp_path / "a-file" / "x"), code=1)
    assert site.client.next() == waits


def test_a_folder_of_another_dataset_blocks_its_own_dataset_only(site: Site) -> None:
    project = site.add_project("P", "#!/bin/bash\ncat input > output\n")
    first, second = (site.add_dataset(project, name, {"input": b"x"}) for name in ("one", "two"))
    state = site.directory / ".state" / "p" / "one"
    state.mkdir(parents=True)
    (state / "workspace.json").write_text(json.dumps({"site": "another", "dataset": 1, "base_path": "p/one"}))

    outcome = json.loads(site.crunch("loop", "--json", code=1).stdout)

    assert [run["result"] for run in outcome["runs"]] == ["blocked", "completed"]
    assert "belongs to another dataset" in outcome["runs"][0]["note"]
    # It is this machine's fault: others may process it.
    assert [site.dataset(slug)["state"] for slug in (first, second)] == ["unprocessed", "completed"]
    site.crunch("next", "--directory", str(site.directory / "elsewhere"))
    assert site.dataset(first)["state"] == "completed"

    (state / "workspace.json").write_text("damaged")
    assert "cannot be read" in site.crunch("run", first, code=1).stderr
    assert site.dataset(first)["state"] == "completed"
