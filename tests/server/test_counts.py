"""The kept numbers of datasets in each state, and of claims, are right whatever changes, and few rows hold them."""

from __future__ import annotations

import pytest
from django.contrib.auth.models import User
from django.core.management import call_command
from django.db import connection
from django.db.models import Sum

from server.models import ClaimCount, Dataset, Item, Project, StateCount
from server.services import catalogue, counts
from tests.support.calls import claim, expire, signed_in

pytestmark = pytest.mark.slow


@pytest.fixture
def birds(database: None) -> Project:
    project = catalogue.create_project(name="Birds")
    for name in ("a", "b", "c"):
        catalogue.create_dataset(project, name=name)
    catalogue.create_dataset(catalogue.create_project(name="Other"), name="a")
    return project


def kept(project: Project) -> dict[str, int]:
    """The states that the project has datasets in."""
    return {state: number for state, number in counts.by_state([project.pk])[project.pk].items() if number}


def test_whatever_changes_a_state_is_counted(birds: Project) -> None:
    assert kept(birds) == {"unprocessed": 3}
    birds.datasets.filter(slug="birds:a").update(state="failed")
    birds.datasets.update(locked=True)
    assert kept(birds) == {"unprocessed": 2, "failed": 1}
    with connection.cursor() as cursor:
        cursor.execute("UPDATE server_dataset SET state = 'completed' WHERE project_id = %s", [birds.pk])
    assert kept(birds) == {"completed": 3}
    Dataset.objects.get(slug="birds:b").delete()
    assert kept(birds) == {"completed": 2}
    Item.objects.get(slug="birds").delete()
    assert not StateCount.objects.filter(project=birds.pk).exists()
    other = Project.objects.get(slug="other")
    assert kept(other) == {"unprocessed": 1}


def test_a_folding_leaves_one_row_for_each_state_and_the_same_sums(birds: Project) -> None:
    for state in ("running", "completed", "running", "failed"):
        birds.datasets.filter(slug="birds:a").update(state=state)
    before = kept(birds)
    counts.fold(birds.pk)
    assert kept(birds) == before == {"unprocessed": 2, "failed": 1}
    assert StateCount.objects.filter(project=birds.pk).count() == 2


def test_datasets_that_come_one_after_another_are_folded_on_the_way(birds: Project) -> None:
    for number in range(2 * counts.FOLD_EACH):
        catalogue.create_dataset(birds, name=f"d{number}")
    assert kept(birds) == {"unprocessed": 3 + 2 * counts.FOLD_EACH}
    assert StateCount.objects.filter(project=birds.pk).count() <= counts.FOLD_EACH + 1


def test_a_migration_makes_triggers_that_are_missing_and_counts_anew(birds: Project) -> None:
    with connection.cursor() as cursor:
        table = " ON server_dataset" if connection.vendor == "postgresql" else ""
        cursor.execute(f"DROP TRIGGER server_state_moved{table}")
    birds.datasets.update(state="failed")
    call_command("migrate", verbosity=0)
    assert kept(birds) == {"failed": 3}
    birds.datasets.update(state="completed")
    assert kept(birds) == {"completed": 3}
    assert StateCount.objects.aggregate(all=Sum("delta"))["all"] == Dataset.objects.count()


def test_claims_are_counted_as_they_are_and_folded_on_the_way(database: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(counts, "FOLD_EACH", 11)
    dataset = catalogue.create_dataset(catalogue.create_project(name="Birds", max_attempts=100), name="One")
    api = signed_in(User.objects.get(username="alice"))
    for number in range(24):
        found = claim(api).json()
        if number % 2:
            expire(dataset.pk)
        else:
            released = api.post(f"/api/claims/{found['claim']}/release/", {"fence": found["fence"]})
            assert released.status_code == 200
    kept = counts.of_claims()
    assert kept == {"granted": 24, "released": 12, "expired": 11}
    assert ClaimCount.objects.count() < 10
    counts.fold_claims()
    assert (counts.of_claims(), ClaimCount.objects.count()) == (kept, 3)
