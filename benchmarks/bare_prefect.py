"""What Prefect alone takes for a flow of three tasks that do nothing, as one of Crunch's datasets has three stages."""

from __future__ import annotations

import os
import subprocess
import sys
import time


def seconds(api: str, count: int) -> float:
    """Of one run, when `count` run one after the other in a process of their own against Prefect's server at `api`."""
    words = [sys.executable, "-m", "benchmarks.bare_prefect", str(count)]
    environment = {**os.environ, "PREFECT_API_URL": api, "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "CRITICAL"}
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=True)
    return float(done.stdout)


def main() -> None:
    """Run so many and print the seconds of one, without the first, which connects."""
    from prefect import flow, task
    from prefect.settings import PREFECT_FLOWS_HEARTBEAT_FREQUENCY, temporary_settings

    @task(persist_result=False)
    def nothing() -> None:
        pass

    @flow(persist_result=False)
    def three() -> None:
        for _ in range(3):
            nothing()

    count = int(sys.argv[1])
    # As Crunch runs its datasets: the heartbeat's thread alone would take most of a second.
    with temporary_settings({PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}):
        three()
        began = time.perf_counter()
        for _ in range(count):
            three()
    print((time.perf_counter() - began) / count)


if __name__ == "__main__":
    main()
