"""How far it is, through the API: a dataset's run with its last lines, and the datasets of projects with their pace."""

from __future__ import annotations

from django.contrib.auth.models import User
from pytest_django import DjangoAssertNumQueries
from rest_framework.test import APIClient

from server.models import Dataset
from tests.support.calls import claim, heartbeat, release
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
