"""`--cleanup` and `crunch clean`: what the storage has goes, everything else stays and is told, also after a kill."""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
import uuid
from collections.abc import Callable
from pathlib import Path

from crunch_tasks.contract import ClaimRequest
from crunch_tasks.files.workspace import Workspace
from tests.acceptance.conftest import Answer
from tests.support.site import GOOD_RUN, Site

Crunch = Callable[..., Answer]

MAKES = """#!/bin/bash
mkdir -p sub/deep
for name in a b sub/c sub/deep/d; do echo "$name" > "$name"; done
"""
RESULTS = {name: f"{name}\n".encode() for name in ("a", "b", "sub/c", "sub/deep/d")}


def files_in(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir()}


def contents(folder: Path) -> dict[Path, bytes]:
    """All but locks and what is remembered of hashes."""
    files = [path for path in folder.rglob("*") if path.is_file() and path.name not in ("lock", "hashes.json")]
    return {path: path.read_bytes() for path in files}


def test_killed_while_it_cleans_up(site: Site, crunch: Crunch) -> None:
    slug = site.add_dataset(site.add_project("P", MAKES + "mkfifo sub/fifo\n"), "one", {"input": b"x"})
    workspace = site.directory / "p" / "one"

    died = site.crunch("next", "--cleanup", code=None, CRASH_AT="local-file-removed:3")

    assert died.returncode == -signal.SIGKILL, died.stderr
    assert site.dataset(slug)["state"] == "completed"
    assert site.statuses(slug, effective=False) == GOOD_RUN
    assert site.files(slug) == {"input": b"x"} | RESULTS
    left = files_in(workspace)
    assert left >= {"sub/fifo", ".crunch/dataset.json"}
    assert len(left & {"input", *RESULTS}) == len(RESULTS) + 1 - 3

    code, out, _ = crunch("clean")
    assert code == 0
    assert "kept p:one" in out and "'sub/fifo': a FIFO" in out and "1 files are not in the storage" in out
    assert files_in(workspace) == left
    (workspace / "sub" / "fifo").unlink()
    assert crunch("clean")[1].startswith("removed p:one (")
    assert not workspace.exists() and not (site.directory / ".state" / "p" / "one").exists()
    assert crunch("clean")[:2] == (0, "")


def test_cleanup_says_what_it_leaves_and_a_clean_run_leaves_nothing(site: Site) -> None:
    site.add_dataset(site.add_project("P", MAKES + "mkfifo sub/fifo; ln -s /etc/hosts out\n"), "one", {"input": b"x"})
    site.add_dataset(site.add_project("Q", MAKES), "two", {"input": b"x"})

    done = site.crunch("loop", "--cleanup", "--json")

    runs = {run["dataset"]: run for run in json.loads(done.stdout)["runs"]}
    workspace = site.directory / "p" / "one"
    assert (runs["p:one"]["workspace"], runs["q:two"]["workspace"]) == (str(workspace), "")
    assert {path for path in files_in(workspace) if not path.startswith(".crunch/")} == {"sub/fifo", "out"}
    assert f"Not removed from {workspace}: " in done.stderr
    assert "'out': a link that leads out" in done.stderr and "'sub/fifo': a FIFO" in done.stderr
    assert not (site.directory / "q" / "two").exists()
    states = site.directory / ".state"
    assert (states / "p" / "one" / "sent").is_dir() and list((states / "q").iterdir()) == []
    assert list(states.glob(".removed-*")) == []


def test_killed_while_the_state_of_a_completed_run_goes(site: Site, crunch: Crunch) -> None:
    slug = site.add_dataset(site.add_project("P", MAKES), "one", {"input": b"x"})

    died = site.crunch("next", "--cleanup", code=None, CRASH_AT="state-put-away:1")

    assert died.returncode == -signal.SIGKILL, died.stderr
    assert site.dataset(slug)["state"] == "completed"
    assert site.statuses(slug, effective=False) == GOOD_RUN
    assert site.files(slug) == {"input": b"x"} | RESULTS
    states = site.directory / ".state"
    assert len(list(states.glob(".removed-*"))) == 1 and list((states / "p").iterdir()) == []
    assert "Nothing waits" in crunch("sync")[2]
    site.add_dataset("p", "two", {"input": b"x"})
    site.crunch("next", "--cleanup")
    assert list(states.glob(".removed-*")) == [] and list((states / "p").iterdir()) == []
    assert crunch("clean")[:2] == (0, "")


def test_clean_removes_what_is_safe_and_says_why_the_rest_stays(site: Site, crunch: Crunch, tmp_path: Path) -> None:
    good, bad = site.add_project("Good", MAKES), site.add_project("Bad", "#!/bin/bash\necho half > half; exit 1\n")
    names = ("safe", "gone", "more", "changed", "lost", "used", "untold", "again", "moved", "away")
    for name in names:
        site.add_dataset(good, name, {"input": b"x"})
    site.add_dataset(bad, "failed", {"input": b"x"})
    done = json.loads(site.crunch("loop", "--json", code=1).stdout)
    assert len(done["runs"]) == len(names) + 1
    assert {run["workspace"] for run in done["runs"] if run["result"] == "failed"} == {
        str(site.directory / "bad" / "failed")
    }
    place, states = site.directory / "good", site.directory / ".state" / "good"
    shutil.rmtree(place / "gone")
    (place / "more" / "notes.txt").write_text("by hand")
    (place / "changed" / "a").write_text("A\n")
    site.storage.delete("good/lost/sub/c")
    (states / "untold" / "sent" / "1-3-2.json").rename(states / "untold" / "outbox" / "1-3-2.json")
    claim = site.client.claim(ClaimRequest(str(uuid.uuid4()), dataset="good:again"))
    assert claim is not None
    (states / "moved" / "workspace.json").write_text(json.dumps({"site": "s", "dataset": 999, "base_path": "x"}))
    with site.server.client("alice") as browser:
        assert browser.delete("/api/datasets/good:away/").status_code == 204
    data = tmp_path / "data"
    data.mkdir()
    (data / "file").write_text("x")
    site.add_dataset(good, "pushed", {})
    assert crunch("push", "good:pushed", str(data))[0] == 0
    before = contents(site.directory)

    with Workspace(site.directory, "good:used").lock():
        code, out, _ = crunch("clean", "--dry-run", "--json")
        dry = json.loads(out)
        going = [row["name"] for row in dry["removed"] if row["name"].startswith("good:")]
        assert (code, dry["dry_run"], going) == (0, True, ["good:gone", "good:safe"])
        assert contents(site.directory) == before
        code, out, err = crunch("clean")

    assert code == 0
    kept = dict(line.removeprefix("kept ").split(" (", 1) for line in out.splitlines() if line.startswith("kept good:"))
    for name, words in {
        "more": "1 files are not in the storage as they are here: 'notes.txt': it was not published",
        "changed": "'a': it changed since it was published",
        "lost": "'sub/c': it was not published",
        "used": f"in use by process {os.getpid()} on ",
        "untold": "1 updates are not delivered yet. Run `crunch sync` first.",
        "again": "It is running; a run here goes on",
        "moved": "another dataset's",
        "away": "does not know this dataset",
    }.items():
        assert words in kept.pop(f"good:{name}"), name
    assert kept == {}
    assert f"remove {site.directory / 'bad' / 'failed'} and" in out and "kept bad:failed" in out
    assert "It was used in the last 30 days" in out
    assert [row.split(" ")[1] for row in out.splitlines() if row.startswith("removed good")] == going
    assert sorted(path.name for path in place.iterdir()) == sorted({*names} - {"safe", "gone"})
    # With them the lock of the push to good:pushed.
    assert "3 removed" in err and "10 kept." in err
    assert (place / "more" / "notes.txt").exists() and (site.directory / "bad" / "failed" / "half").exists()

    # Nobody uses the record of a push for a month; one that was interrupted still has to let the dataset go.
    records = list((site.directory / ".state" / ".own-folders").iterdir())
    old = time.time() - 40 * 86_400
    for file in [file for record in records for file in record.iterdir()]:
        os.utime(file, (old, old))
    (records[0] / "held-by-push").touch()
    out = crunch("clean")[1]
    assert "A push was interrupted" in out
    assert list((site.directory / ".state" / ".own-folders").iterdir()) == [records[0]]
