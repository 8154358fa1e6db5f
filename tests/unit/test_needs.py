"""What is asked of a machine, as text; what a machine says that it has, and until when."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crunch_tasks import until
from crunch_tasks.errors import SettingsError
from crunch_tasks.machine import available_gpus, available_memory, resources
from crunch_tasks.needs import Resources, parse
from crunch_tasks.settings import client_settings

some = st.builds(
    Resources,
    cores=st.integers(0, 1000),
    memory=st.integers(0, 2**60),
    gpus=st.integers(0, 16),
    labels=st.frozensets(st.sampled_from(["fast", "avx512", "big-disk"])),
)


@given(some)
def test_a_text_says_the_same_read_again(what: Resources) -> None:
    assert parse(str(what)) == what
    assert Resources.from_wire(what.to_wire()) == what


@given(some, some)
def test_what_lacks_nothing_fits_and_what_is_lacking_makes_it_fit(has: Resources, needs: Resources) -> None:
    lacking = has.lacks(needs)
    more = Resources(
        max(has.cores, lacking.cores),
        max(has.memory, lacking.memory),
        max(has.gpus, lacking.gpus),
        has.labels | lacking.labels,
    )
    assert more.lacks(needs) == Resources()
    assert has.lacks(has) == Resources()


@pytest.mark.parametrize(
    ("environment", "devices", "gpus"),
    [
        ({"CUDA_VISIBLE_DEVICES": "0,3"}, 4, 2),
        ({"CUDA_VISIBLE_DEVICES": ""}, 4, 0),
        ({"CUDA_VISIBLE_DEVICES": "-1"}, 4, 0),
        ({"SLURM_GPUS_ON_NODE": "3"}, 4, 3),
        ({}, 2, 2),
        ({}, 0, 0),
    ],
)
def test_gpus_are_those_that_the_process_may_use(
    tmp_path: Path, environment: dict[str, str], devices: int, gpus: int
) -> None:
    for number in range(devices):
        (tmp_path / f"nvidia{number}").touch()
    (tmp_path / "nvidiactl").touch()
    assert available_gpus(environment, tmp_path) == gpus


def test_memory_is_what_the_batch_system_leaves() -> None:
    whole = available_memory({})
    assert available_memory({"SLURM_MEM_PER_NODE": "1"}) == 2**20
    assert available_memory({"SLURM_MEM_PER_NODE": "0"}) == whole > 2**20
    assert resources(3, 2, frozenset({"fast"}), {}).cores == 3


@pytest.mark.parametrize(
    ("text", "word"),
    [("1000 cores", "1000"), ("cores 1000", "cores"), ("GPU", "GPU"), ("16GB", "16GB"), ("fast,8cores", "8cores")],
)
def test_a_number_apart_from_its_name_is_no_label(text: str, word: str) -> None:
    with pytest.raises(ValueError, match=f"^'{word}' is no label: .*in one word, such as cores=1000"):
        parse(text)


@pytest.mark.parametrize("word", ["10gbe", "3d", "a100", "gpu-a100", "2026-node", "ssd-2tb"])
def test_a_label_may_have_numbers_in_it(word: str) -> None:
    assert parse(word).labels == {word}


def test_labels_are_words_only() -> None:
    assert client_settings(labels="Fast, avx512").labels == "avx512 fast"
    for wrong in ("gpus=8", "a!b"):
        with pytest.raises(SettingsError, match=r"--labels or CRUNCH_LABELS: .*label"):
            client_settings(labels=wrong)


NOW = dt.datetime(2030, 5, 1, 12, 30, tzinfo=dt.timezone(dt.timedelta(hours=2)))


@pytest.mark.parametrize(
    ("text", "hours"),
    [
        ("+2h", 2),
        ("+1d1h30m", 25.5),
        ("+90m", 1.5),
        ("13:30", 1),
        ("12:30", 24),
        ("9:30", 21),
        ("2030-05-01T14:30", 2),
        ("2030-05-01T14:30:00Z", 4),
        ("2030-05-01 11:30", -1),
    ],
)
def test_an_end_is_a_span_a_clock_or_a_time(text: str, hours: float) -> None:
    assert until.end(text, NOW) == NOW + dt.timedelta(hours=hours)


@pytest.mark.parametrize("text", ["+", "2h", "+2", "24:00", "12:60", "soon", "+-1h", "+1.5h"])
def test_an_end_that_nobody_understands_names_the_option(text: str) -> None:
    with pytest.raises(SettingsError, match=r"--until or CRUNCH_UNTIL: .* it should look like \+2h"):
        client_settings(until=text)


def test_the_time_left_is_told_or_the_batch_systems(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SLURM_JOB_END_TIME", raising=False)
    assert client_settings().seconds_left() is None
    monkeypatch.setenv("SLURM_JOB_END_TIME", "32503680000")
    batch = client_settings().seconds_left()
    assert batch is not None
    assert batch > 10**9
    monkeypatch.setenv("CRUNCH_UNTIL", "+2h")
    settings = client_settings()
    left = settings.seconds_left()
    assert left is not None
    assert 0 < left <= 7200
    # The end does not move with the settings that are made of these.
    assert client_settings(until=settings.until).until == settings.until
    assert client_settings(until="2001-01-01").seconds_left() == 0
    assert until.end_of_job({"SLURM_JOB_END_TIME": "soon"}) is None
