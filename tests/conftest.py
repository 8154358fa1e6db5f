"""One seed for all that is sampled, in every process of a test run, and printed so that the run can be done again."""

from __future__ import annotations

import os

from tests.support import depth

os.environ["CRUNCH_TEST_SEED"] = str(depth.SEED)


def pytest_report_header() -> str:
    return f"sampled with CRUNCH_TEST_SEED={depth.SEED}" if not depth.whole() else "whole: CRUNCH_TEST_ALL=1"
