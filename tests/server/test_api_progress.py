"""How far it is, through the API: a dataset's run with its last lines, and the datasets of projects with their pace."""

from __future__ import annotations

import datetime as dt

import pytest
from django.contrib.auth.models import User
from django.utils import timezone
from pytest_django import DjangoAssertNumQueries
from rest_framework.test import APIClient

from server.models import Dataset, Project
from server.services import catalogue
from tests.support.calls import claim, heartbeat, release, signed_in
from tests.support.pages import take

LOG = "/api/datasets/birds:one/log/"


def test_the_last_lines_and_the_steps_while_it_runs(
    api: APIClient, alice: User, dataset: Dataset, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    quiet = {"state": "unprocessed", "stage": None, "stage_state": None, "progress": None, "text": "", "at": None}
    assert api.get(LOG).json() == quiet
    claimed = claim(api, dataset=dataset.slug).json()
    assert api.get(LOG).json() == {**quiet, "state": "running"}
    heartbeat(api, claimed, progress={"done": 3, "total": 7}, log_tail="step 3\n")
    with django_assert_num_queries(3):
        told = api.get(LOG).json()
    assert (told["text"], told["progress"]) == ("step 3\n", {"done": 3, "total": 7})
    assert told["at"] is not None
    heartbeat(api, claimed, progress={"what": "ever"})
    assert (api.get(LOG).json()["text"], api.get(LOG).json()["progress"]) == ("step 3\n", None)
    release(api, claimed)
    assert api.get(LOG).json() == quiet
    take(alice, dataset, 4, fail="it broke")
    told = api.get(LOG).json()
    assert (told["state"], told["stage"], told["stage_state"]) == ("failed", 2, 3)


def test_a_projects_states_pace_and_time_remaining(
    api: APIClient, alice: User, project: Project, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    address = "/api/projects/birds/progress/"
    empty = {"total": 0, "unprocessed": 0, "running": 0, "completed": 0, "failed": 0, "per_hour": None}
    assert api.get(address).json() == {"project": "birds", **empty, "seconds_left": 0}
    made = [catalogue.create_dataset(project, name=f"d{number}") for number in range(8)]
    assert api.get(address).json()["seconds_left"] is None
    for dataset in made[:5]:
        take(alice, dataset, 6)
    Dataset.objects.filter(state="completed").update(updated=timezone.now() - dt.timedelta(minutes=30))
    take(alice, made[5], 2, fail="it broke")
    take(alice, made[6], 1)
    with django_assert_num_queries(4):
        told = api.get(address).json()
    states = {"total": 8, "unprocessed": 1, "running": 1, "completed": 5, "failed": 1}
    assert told | states == told
    assert told["per_hour"] == pytest.approx(10, rel=0.01)
    assert told["seconds_left"] == pytest.approx(2 * 360, rel=0.01)
    Dataset.objects.filter(pk=made[6].pk).update(state="failed")
    told = api.get(address).json()
    assert (round(told["per_hour"]), told["seconds_left"]) == (10, None), "one waits, and nobody works on it"


def test_the_states_of_all_projects_that_one_sees(
    api: APIClient, dataset: Dataset, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    for number in range(3):
        catalogue.create_dataset(catalogue.create_project(name=f"P{number}", visibility="public"), name="d")
    with django_assert_num_queries(4):
        told = api.get("/api/progress/").json()
    waiting = {"total": 1, "unprocessed": 1, "running": 0, "completed": 0, "failed": 0}
    assert told["results"] == [{"project": slug, **waiting} for slug in ("birds", "p0", "p1", "p2")]
    stranger = signed_in(User.objects.create_user("stranger"))
    seen = stranger.get("/api/progress/?search=p1").json()["results"]
    assert [found["project"] for found in seen] == ["p1"]
    assert stranger.get("/api/progress/?search=birds").json()["results"] == []
