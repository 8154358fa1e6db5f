"""A process that downloads from S3 is killed with SIGKILL: no name holds half a file, and the next fetches the rest."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from crunch_tasks.files.opening import open_storage
from crunch_tasks.files.workspace import Workspace
from tests.support.line import made, send
from tests.support.proxy import proxy
from tests.support.seaweed import SeaweedS3
from tests.support.site import until

pytestmark = pytest.mark.slow

MIB = 1024 * 1024
FILES = {f"small-{number}": os.urandom(MIB // 4) for number in range(24)} | {"big": os.urandom(MIB) * 12}

CLIENT = """
import json, sys
from pathlib import Path
from crunch_tasks.files.download import download
from crunch_tasks.files.opening import open_storage
from crunch_tasks.files.workspace import Workspace
from tests.support.line import sources
storage = open_storage(json.loads(sys.argv[1]))
workspace = Workspace(Path(sys.argv[2]), "p:d")
download(storage, sources(storage), workspace)
"""


def in_the_large_file(workspace: Workspace) -> bool:
    return any(path.stat().st_size >= 4 * MIB for path in workspace.partial.iterdir())


def among_the_small_files(workspace: Workspace) -> bool:
    return sum(1 for path in workspace.root.iterdir() if path.name != "big") >= 4


@pytest.mark.parametrize("when", [in_the_large_file, among_the_small_files])
def test_the_next_process_fetches_only_what_is_missing(
    s3: SeaweedS3, bucket: str, tmp_path: Path, when: Callable[[Workspace], bool]
) -> None:
    send(open_storage(s3.storage(bucket)), made(tmp_path / "there", FILES))
    workspace = made(tmp_path / "work", {})
    with proxy(s3.endpoint) as line:
        config = json.dumps(s3.storage(bucket, endpoint_url=line.endpoint))
        command = [sys.executable, "-c", CLIENT, config, str(workspace.directory)]
        line.rate = 8e6
        process = subprocess.Popen(command)
        try:
            until(lambda: when(workspace), what="the moment of the kill")
        finally:
            process.kill()
            process.wait()
        there = {path.name: path.read_bytes() for path in workspace.root.iterdir()}
        assert there.items() <= FILES.items()
        assert there.keys() != FILES.keys()
        (partial,) = [path.stat().st_size for path in workspace.partial.iterdir() if path.stat().st_size > MIB] or [0]
        assert ("big" in there) == (partial == 0)

        line.rate, line.asked = None, []
        subprocess.run(command, check=True)

    assert {path.name: path.read_bytes() for path in workspace.root.iterdir()} == FILES
    fetched = {path.rpartition("/")[2]: told for method, path, told in line.asked if method == "GET"}
    assert not fetched.keys() & there.keys()
    first_bytes = [int(told[6:].split("-")[0]) for _, path, told in line.asked if path.endswith("/big") and told]
    assert not partial or min(first_bytes) >= partial
    assert list(workspace.partial.iterdir()) == []
