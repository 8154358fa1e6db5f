"""How much of a long walk is tested: in `make test` a sample, with its seed printed, in `make test-all` the whole."""

from __future__ import annotations

import os
import random
from collections.abc import Sequence
from typing import TypeVar

import pytest

T = TypeVar("T")

SEED = int(os.environ.get("CRUNCH_TEST_SEED") or random.SystemRandom().randrange(10**6))
"""The same in all processes of one test run: `tests/conftest.py` puts it into the environment."""


def whole() -> bool:
    """Whether the long tests are to run whole."""
    return os.environ.get("CRUNCH_TEST_ALL") == "1"


def sample(everything: Sequence[T], most: int) -> list[T]:
    """All of it or, in `make test`, so many by the seed; in its order."""
    if whole() or most >= len(everything):
        return list(everything)
    chosen = random.Random(SEED).sample(range(len(everything)), most)
    return [everything[index] for index in sorted(chosen)]


long = pytest.mark.skipif(not whole(), reason="it takes long: see `make test-all`")
"""A test that `make test` leaves out, as others prove most of what it does."""
