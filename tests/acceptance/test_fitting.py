"""Clients that get only what fits their machine."""

from __future__ import annotations

from tests.support.site import Site


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
    assert "none fits this machine: whales may take 60 s, and " in late
    assert site.dataset(slug)["state"] == "unprocessed"
