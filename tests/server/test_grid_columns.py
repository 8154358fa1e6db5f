"""What is kept with each dataset for the lists of the pages; that it follows the statuses is shown by the protocol's
walk (`test_protocol`)."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.management import call_command
from django.db.models import F

from crunch_tasks.contract import Stage, State
from server.models import Dataset, Failure, Item
from server.services import catalogue, statuses
from server.services.statuses import Event

COLUMNS = ("slug", "plain", "key", "stage", "stage_state", "updated", "failure__signature", "failure__example")


def old_client(dataset: Dataset, *states: tuple[Stage, State], note: str = "") -> None:
    for stage, state in states:
        statuses.record(User.objects.get(username="alice"), Event(dataset.pk, stage, state, note=note))


@pytest.mark.slow
def test_a_server_of_before_gets_them_from_its_statuses(database: None) -> None:
    project = catalogue.create_project(name="Birds")
    waiting, running, silent, done, failed = (catalogue.create_dataset(project, name=n) for n in ("a b", *"cdef"))
    part = catalogue.create_item(project, name="part")
    old_client(running, (Stage.SETUP, State.START), (Stage.SETUP, State.SUCCESS))
    old_client(silent, (Stage.SETUP, State.START))
    Dataset.objects.filter(pk=silent.pk).update(fence=F("fence") + 1, stage=None, stage_state=None)
    old_client(done, (Stage.SETUP, State.START), (Stage.UPLOAD, State.SUCCESS))
    old_client(failed, (Stage.SETUP, State.START), (Stage.WORKFLOW, State.FAIL), note="No reads in 7 files.")
    waiting.refresh_from_db()
    Dataset.objects.filter(pk=waiting.pk).update(updated=waiting.created)

    def kept() -> list[Any]:
        return list(Dataset.objects.order_by("pk").values_list(*COLUMNS))

    before = kept()
    assert before[-1][-2:] == ("No reads in … files.", "No reads in 7 files.")
    assert before[0][2] == "a-b"
    call_command("migrate", "server", "0003_state_counts", verbosity=0)
    call_command("migrate", verbosity=0)
    assert kept() == before
    assert Failure.objects.count() == 1
    assert list(Item.objects.filter(plain=True)) == [part]
