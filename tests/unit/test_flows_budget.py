"""A loop's disk budget: what was there before counts, and what is begun again counts once."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from crunch_tasks.errors import UsageError, WorkspaceError
from crunch_tasks.settings import LoopOptions, RunOptions, client_settings
from flows.budget import DiskBudget
from flows.loop import process_all


def kept(directory: Path, name: str, size: int) -> None:
    (directory / "birds" / name).mkdir(parents=True)
    (directory / "birds" / name / "a").write_bytes(os.urandom(size))


def test_what_earlier_runs_left_takes_room_until_it_is_begun_again(tmp_path: Path) -> None:
    kept(tmp_path, "one", 300_000)
    kept(tmp_path, "two", 300_000)
    budget = DiskBudget(client_settings(directory=tmp_path), 1_000_000)
    assert not budget.left > 400_000
    assert budget.take("birds:one", 600_000)
    assert not budget.take("birds:three", 200_000)
    budget.end("birds:one")
    assert budget.take("birds:three", 200_000)


def test_a_directory_that_takes_it_all_ends_the_loop_with_the_remedy(tmp_path: Path) -> None:
    kept(tmp_path, "one", 300_000)
    budget = DiskBudget(client_settings(directory=tmp_path), 200_000)
    with pytest.raises(WorkspaceError, match=r"takes all of --max-disk already\. See by `crunch clean`"):
        budget.check()
    with pytest.raises(WorkspaceError, match="birds:three has 5 bytes, and -"):
        budget.take("birds:three", 5)


def test_it_needs_what_makes_room() -> None:
    with pytest.raises(UsageError, match="needs --cleanup too"):
        process_all(client_settings(), RunOptions(), lanes=LoopOptions.model_validate({"max_disk": "2G"}))
