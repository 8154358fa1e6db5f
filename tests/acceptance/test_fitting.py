"""Clients that get only what fits their machine."""

from __future__ import annotations

import json

from tests.support.site import GOOD_RUN, Site


def test_what_does_not_fit_is_not_begun_and_told(site: Site) -> None:
    project = site.add_project("birds", "true\n", needs="gpus=999 memory=1MB avx512")
    slug = site.add_dataset(project, "one", {"a": b"a"})
    said = site.crunch("loop", code=3).stderr
    assert "none fits this machine: birds asks for gpus=999 avx512." in said
    # No table of runs: there was none, and what waits is something to process.
    assert "nothing to process" not in said
    assert "birds asks for gpus=999." in site.crunch("next", "--labels", "AVX512", code=3).stderr
    site.add_dataset(site.add_project("whales", "true\n"), "one", {"a": b"a"})
    late = site.crunch("next", "--project", "whales", "--until", "+30s", code=3).stderr
    assert "none would be done in time: whales may take 60 s, and " in late
    assert site.dataset(slug)["state"] == "unprocessed"


def test_what_is_too_large_for_the_time_that_is_left_is_given_back_unfetched(site: Site) -> None:
    project = site.add_project("birds", "true\n")
    for number in range(3):
        site.add_dataset(project, f"d{number}", {"a": b"a" * 200_000})
    site.crunch("loop", "--until", "+1h")
    (kept,) = site.directory.glob(".state/past_runs/birds.json")
    past = json.loads(kept.read_text())
    assert [size for size, _ in past["runs"]] == [200_000] * 3
    # As if each had computed for a while.
    kept.write_text(json.dumps(past | {"runs": [[size, 1000] for size, _ in past["runs"]]}))
    large = site.add_dataset(project, "large", {"a": b"a" * 600_000})

    said = site.crunch("next", "--until", "+40m", code=3).stderr
    assert f"! {large}  no time" in said and "0 down" in said
    assert f"{large} has 600000 bytes and, by earlier runs here, may take 0:50:00; 0:" in said
    assert (site.statuses(large), site.dataset(large)["state"]) == ([(1, 1)], "unprocessed")
    assert site.dataset(large)["attempt"] == 0

    small = site.add_dataset(project, "small", {"a": b"a" * 200_000})
    said = site.crunch("loop", "--until", "+40m").stderr
    assert "2 datasets in" in said and "1 completed, 1 no time" in said
    assert [site.dataset(slug)["state"] for slug in (large, small)] == ["unprocessed", "completed"]
    for number in range(2):
        site.add_dataset(project, f"large-{number}", {"a": b"a" * 600_000})
    site.add_dataset(project, "waits", {"a": b"a"})
    said = site.crunch("loop", "--until", "+40m", "--prefetch", "0", code=3).stderr
    assert "There is no time for 3 datasets, so this loop ends." in said and "3 datasets in" in said

    # A person decides.
    site.crunch("run", large, CRUNCH_UNTIL="+40m")
    assert site.statuses(large)[-6:] == GOOD_RUN
