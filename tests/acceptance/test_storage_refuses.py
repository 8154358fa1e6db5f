"""A storage that refuses, loses, lacks or renames what a run needs fails that run, with the object in its note."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.support.proxy import Fault, proxy
from tests.support.seaweed import SeaweedS3
from tests.support.site import Site

MAKES = "#!/bin/bash\necho more >> input.txt\nfor i in 1 2 3; do echo $i > out$i; done\n"
INPUTS = {"input.txt": b"x\n", "other.txt": b"y\n"}


@pytest.mark.parametrize("storage_settings", ["s3"], indirect=True)
def test_each_is_told_and_publishes_nothing(site: Site, s3: SeaweedS3, tmp_path: Path) -> None:
    project = site.add_project("P", MAKES)
    refused, gone, empty = (
        site.add_dataset(project, name, files)
        for name, files in {"refused": INPUTS, "gone": INPUTS, "empty": {}}.items()
    )
    with proxy(s3.endpoint) as line:
        settings = tmp_path / "behind.toml"
        settings.write_text(site.storage_settings.read_text().replace(s3.endpoint, line.endpoint))
        line.faults = [
            Fault("PUT", "/refused/out2", status=403),
            Fault("GET", "/gone/other.txt", status=404),
        ]
        outcome = json.loads(site.crunch("loop", "--json", "--storage-settings", str(settings), code=1).stdout)

    assert [run["result"] for run in outcome["runs"]] == ["failed"] * 3
    failed_setup, failed_upload = [(1, 1), (1, 3)], [(1, 1), (1, 2), (2, 1), (2, 2), (3, 1), (3, 3)]
    for slug, statuses, said in (
        (refused, failed_upload, "refused 'p/refused/out2'"),
        (gone, failed_setup, "'p/gone/other.txt' is not in the storage"),
        (empty, failed_setup, "no files under 'p/empty/'"),
    ):
        assert said in site.notes(slug)[-1]
        assert site.statuses(slug) == statuses
        assert not site.dataset(slug)["manifest_sha256"]
        keys = [info.key for info in site.storage.list_objects(f"{site.dataset(slug)['base_file_path']}/")]
        assert not [key for key in keys if "manifest-" in key]
        for path, content in () if slug == empty else INPUTS.items():
            assert site.read(slug, path) == content


def test_a_storage_that_renames_is_refused_before_the_workflow_runs(site: Site, tmp_path: Path) -> None:
    ran = tmp_path / "ran"
    slug = site.add_dataset(site.add_project("P", f"touch '{ran}'\n"), "one", INPUTS)
    settings = tmp_path / "renaming.json"
    options = {"location": str(site.storage_settings.with_name("storage"))}
    backend = "tests.support.storages.HashingStorage"
    settings.write_text(json.dumps({"STORAGES": {"default": {"BACKEND": backend, "OPTIONS": options}}}))

    site.crunch("next", "--storage-settings", str(settings), code=1, PYTHONPATH=str(Path(__file__).parents[2]))

    assert site.statuses(slug) == [(1, 1), (1, 3)]
    assert re.search(r"kept 'p/one/.*' as 'p/one/.*kept'; use one that overwrites", site.notes(slug)[-1])
    assert not ran.exists()
    assert site.files(slug) == INPUTS
