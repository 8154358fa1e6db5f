"""`python -m server prune` removes what is old and expired, that alone, and says how much."""

from __future__ import annotations

import datetime as dt
from io import StringIO

import pytest
from django.contrib.sessions.backends.db import SessionStore
from django.contrib.sessions.models import Session
from django.core.management import CommandError, call_command
from django.utils import timezone

from crunch_tasks.contract import DIAGNOSTICS
from server.models import Dataset, Status
from server.services import pruning

TOLD = {name: "node1" if kind is str else 7 for name, kind in DIAGNOSTICS.items()}


def prune(*words: str) -> str:
    out = StringIO()
    call_command("prune", *words, stdout=out)
    return out.getvalue()


@pytest.fixture
def history(dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> list[Status]:
    """Seven statuses, 200 to 20 days old; the second tells nothing of its machine. More than one batch."""
    monkeypatch.setattr(pruning, "BATCH", 2)
    made = []
    for number in range(7):
        row = Status.objects.create(
            dataset=dataset, fence=1, stage=1, state=3, note="why", effective=True, **(TOLD if number != 1 else {})
        )
        Status.objects.filter(pk=row.pk).update(created=timezone.now() - dt.timedelta(days=200 - 30 * number))
        made.append(row)
    return made


def telling() -> list[int]:
    """The statuses that still have diagnostics, by their place."""
    return [place for place, row in enumerate(Status.objects.order_by("pk")) if row.hostname]


def test_old_diagnostics_are_blanked_and_all_else_stays(history: list[Status]) -> None:
    said = "diagnostics of 3 statuses older than 90 days"
    assert f"{said} would be blanked" in prune("--diagnostics-older-than", "90d", "--dry-run")
    assert telling() == [0, 2, 3, 4, 5, 6]
    assert f"{said} blanked" in prune("--diagnostics-older-than", "90d")
    assert telling() == [4, 5, 6]
    first = Status.objects.earliest("pk")
    assert {name: getattr(first, name) for name in DIAGNOSTICS} == pruning.BLANK
    assert Status.objects.filter(note="why").count() == 7
    assert "diagnostics of 0 statuses" in prune("--diagnostics-older-than", "90d")
    prune()
    assert telling() == [4, 5, 6]


def test_expired_sessions_go_and_live_ones_stay(db: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pruning, "BATCH", 2)
    for _ in range(5):
        SessionStore().create()
    Session.objects.exclude(pk=Session.objects.first().pk).update(expire_date=timezone.now() - dt.timedelta(hours=1))
    assert "4 expired sessions would be removed" in prune("--dry-run")
    assert Session.objects.count() == 5
    assert "4 expired sessions removed" in prune()
    assert Session.objects.count() == 1


@pytest.mark.parametrize("age", ["90", "d", "-1d", "1e3d", "999999d", "90 d"])
def test_an_age_that_is_none_is_one_clear_error(age: str) -> None:
    with pytest.raises(CommandError, match=r"not a number of days. Write it like 90d\."):
        prune(f"--diagnostics-older-than={age}")
