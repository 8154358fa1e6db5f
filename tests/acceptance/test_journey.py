"""Datasets from claim to commit, by the `crunch` command as a process, on a folder and on S3."""

from __future__ import annotations

import gzip
import hashlib
import json
import subprocess
import uuid

import httpx
import pytest

from tests.support.depth import long, sample
from tests.support.site import CRUNCH, GOOD_RUN, Site

EITHER = pytest.mark.parametrize("storage_settings", sample(["folder", "s3"], 1), indirect=True)

# Appends to an input, deletes one, writes new ones, and looks at what is there.
SCRIPT = """#!/bin/bash
set -e
seen=$(find . -type f -not -path './.crunch/*' | LC_ALL=C sort)
echo "$seen" > seen.txt
echo appended >> input.txt
rm -f 'to delete.txt'
mkdir -p out
wc -c < 'sample#1' > out/size.txt
gzip -nc input.txt > out/input.gz
"""


def inputs(name: str) -> dict[str, bytes]:
    return {
        "input.txt": f"input of {name}\n".encode(),
        "sample#1": b"#" * 1000,
        "a b": b"with a space",
        "deep/ä/100%.csv": "ä,ö\n".encode(),
        "reads.gz": gzip.compress(b"ACGT" * 100, mtime=0),
        "empty": b"",
        "to delete.txt": b"old",
    }


def expected(name: str) -> dict[str, bytes]:
    """What SCRIPT leaves in the storage: Crunch deletes no object because a workflow deleted the file."""
    start = inputs(name)
    modified = start["input.txt"] + b"appended\n"
    listing = "".join(f"./{path}\n" for path in sorted(start, key=lambda path: path.encode()))
    return start | {
        "input.txt": modified,
        "seen.txt": listing.encode(),
        "out/size.txt": b"1000\n",
    }


def md5s(files: dict[str, bytes]) -> dict[str, str]:
    return {path: hashlib.md5(content).hexdigest() for path, content in files.items()}


@EITHER
def test_a_loop_processes_ten_datasets_byte_for_byte(site: Site) -> None:
    project = site.add_project("Birds", SCRIPT)
    names = [f"d{number}" for number in range(1, 11)]
    slugs = [site.add_dataset(project, name, inputs(name)) for name in names]

    outcome = json.loads(site.crunch("loop", "--project", project, "--json").stdout)

    assert [run["result"] for run in outcome["runs"]] == ["completed"] * 10
    for name, slug in zip(names, slugs, strict=True):
        found, wanted = site.files(slug), expected(name)
        assert gzip.decompress(found.pop("out/input.gz")) == wanted["input.txt"]
        assert found == wanted
        assert site.statuses(slug) == GOOD_RUN
        assert site.statuses(slug, effective=False) == GOOD_RUN
        assert site.read_json(slug, ".crunch/setup_md5_checksums.json") == md5s(inputs(name))
        final = {path: content for path, content in site.files(slug).items() if path != "to delete.txt"}
        assert site.read_json(slug, ".crunch/upload_md5_checksums.json") == md5s(final)
        assert site.read(slug, ".crunch/deleted.txt") == b"to delete.txt\n"
        assert site.read(slug, ".crunch/script.sh") == SCRIPT.encode()
        told = site.read_json(slug, ".crunch/dataset.json")
        assert told["slug"] == slug
        assert "updated" not in told, "another claim would make another file, and Snakemake do its rule again"
        assert site.read_json(slug, ".crunch/project.json")["slug"] == project
        dataset = site.dataset(slug)
        manifest = site.read(slug, f".crunch/manifest-{dataset['manifest_fence']}.json")
        assert hashlib.sha256(manifest).hexdigest() == dataset["manifest_sha256"]
        assert dataset["state"] == "completed"


SNAKEFILE = """
rule all:
    input: "counts.txt", "upper.txt"

rule count:
    input: "words.txt"
    output: "counts.txt"
    shell: "wc -w < {input} > {output}; echo ran >> count-runs.log"

rule upper:
    input: "words.txt"
    output: "upper.txt"
    shell: "tr a-z A-Z < {input} > {output}"
"""


@long
@EITHER
def test_a_second_run_of_a_finished_workspace_moves_no_file(site: Site) -> None:
    project = site.add_project("Words", SNAKEFILE, workflow_type="snakemake")
    # Prefect's server is that of the other tests too, so the name is of this one only.
    slug = site.add_dataset(project, f"one {uuid.uuid4().hex}", {"words.txt": b"one two three\n"})

    first = json.loads(site.crunch("next", "--json").stdout)
    second = json.loads(site.crunch("run", slug, "--json").stdout)

    assert (first["downloaded"], first["uploaded"]) == (1, 3)
    assert (second["downloaded"], second["uploaded"]) == (0, 0)
    assert site.files(slug)["counts.txt"] == b"3\n"
    # Nor was anything hashed for a manifest: all sums were known from fetching and sending.
    ask = {"task_runs": {"name": {"any_": ["md5-manifest"]}}, "flow_runs": {"name": {"any_": [slug]}}}
    assert httpx.post(f"{site.prefect_api}/task_runs/filter", json=ask).json() == []
    # Snakemake did not run a finished rule again.
    assert site.files(slug)["count-runs.log"] == b"ran\n"
    assert site.statuses(slug) == GOOD_RUN * 2
    # Where our own memory of sums is lost, Prefect's cache has the manifest of a workspace that nobody touched since.
    for _ in range(2):
        next((site.directory / ".state").glob("*/*/hashes.json")).unlink()
        site.crunch("run", slug, "--no-download")
    ask["task_runs"]["state"] = {"name": {"any_": ["Cached"]}}
    assert httpx.post(f"{site.prefect_api}/task_runs/filter", json=ask).json()


def test_snakemake_on_another_machine_does_not_redo_finished_rules(site: Site) -> None:
    project = site.add_project("Words", SNAKEFILE, workflow_type="snakemake")
    slug = site.add_dataset(project, "one", {"words.txt": b"one two three\n"})
    site.crunch("next")

    again = json.loads(site.crunch("run", slug, "--directory", str(site.directory / "elsewhere"), "--json").stdout)

    assert (again["downloaded"], again["uploaded"]) == (4, 0)
    assert list((site.directory / "elsewhere" / "words" / "one" / ".snakemake" / "metadata").iterdir())
    assert site.files(slug)["count-runs.log"] == b"ran\n"


def test_a_workflow_in_its_own_place_finds_its_own_scripts(site: Site, tmp_path) -> None:
    folder = tmp_path / "workflow"
    folder.mkdir()
    (folder / "included.smk").write_text('rule made:\n    output: "made.txt"\n    script: "make.py"\n')
    (folder / "make.py").write_text("open(snakemake.output[0], 'w').write('by a script beside the Snakefile')\n")
    (folder / "Snakefile").write_text('rule all:\n    input: "made.txt"\ninclude: "included.smk"\n')
    project = site.add_project("In place", "true\n")
    slug = site.add_dataset(project, "one", {"input": b"x"})

    site.crunch("run", slug, "--path", str(folder / "Snakefile"), "--workflow", "snakemake")

    assert site.files(slug)["made.txt"] == b"by a script beside the Snakefile"


def test_next_with_nothing_to_do_says_so_with_exit_code_3(site: Site) -> None:
    done = site.crunch("next", code=3)
    assert "no dataset to process" in done.stderr


def test_a_command_whose_streams_are_closed_writes_into_no_file_of_the_dataset(site: Site) -> None:
    slug = site.add_dataset(site.add_project("P", "echo made > made.txt\necho said\n"), "one", {"input.txt": b"x"})
    # Nothing is open there, as under some schedulers: what is opened next would be the standard output.
    closed = subprocess.run(["sh", "-c", f"exec {CRUNCH} next <&- >&- 2>&-"], env=site.env, timeout=180, check=False)
    assert (closed.returncode, site.dataset(slug)["state"]) == (0, "completed")
    assert site.files(slug) == {"input.txt": b"x", "made.txt": b"made\n"}
    assert site.read(slug, ".crunch/logs/workflow.log") == b"said\n"


def test_cleanup_removes_the_workspace_and_no_download_takes_it_as_it_is(site: Site) -> None:
    project = site.add_project("P", "#!/bin/bash\ncat input.txt > copy.txt\n")
    slug = site.add_dataset(project, "one", {"input.txt": b"from the storage"})
    workspace = site.directory / "p" / "one"

    site.crunch("next", "--cleanup")
    assert not workspace.exists()
    assert site.files(slug)["copy.txt"] == b"from the storage"

    workspace.mkdir(parents=True)
    (workspace / "input.txt").write_text("by hand")
    (workspace / "more.txt").write_text("not in the storage")
    site.crunch("run", slug, "--no-download")
    by_hand = {"input.txt": b"by hand", "copy.txt": b"by hand", "more.txt": b"not in the storage"}
    assert site.files(slug) == by_hand
    assert json.loads((workspace / ".crunch" / "setup_md5_checksums.json").read_text()).keys() == {
        "input.txt",
        "more.txt",
    }

    # What was published is whole: another machine starts from it.
    again = site.crunch("run", slug, "--directory", str(site.directory / "elsewhere"), "--json")
    assert json.loads(again.stdout)["downloaded"] == 3
    assert site.files(slug) == by_hand


def test_no_upload_leaves_the_results_here_and_the_dataset_unprocessed(site: Site) -> None:
    project = site.add_project("P", "#!/bin/bash\necho result > out.txt\n")
    slug = site.add_dataset(project, "one", {"input.txt": b"x"})

    site.crunch("next", "--no-upload")

    assert (site.directory / "p" / "one" / "out.txt").read_text() == "result\n"
    assert site.files(slug) == {"input.txt": b"x"}
    assert site.dataset(slug)["state"] == "unprocessed"
    assert "take the same one for ever" in site.crunch("loop", "--no-upload", code=2).stderr
