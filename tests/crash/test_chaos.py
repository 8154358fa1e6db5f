"""Everything at random and at once; `make chaos` is the same for longer."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.crash.chaos import Chaos
from tests.support.depth import SEED, whole


@pytest.mark.timeout(900)
def test_whatever_is_killed_stopped_or_cut_in_the_end_every_dataset_is_right(tmp_path: Path) -> None:
    with Chaos(tmp_path, SEED) as chaos:
        chaos.rage(240 if whole() else 20)
        assert chaos.problems() == []
    assert chaos.not_yet() == []
