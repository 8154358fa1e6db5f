"""A claim ahead: its client has enough to compute for now, so it gets none that an idle client could start."""

from __future__ import annotations

import pytest
from django.contrib.auth.models import User

from server.models import Project
from server.services import catalogue
from tests.support.calls import claim, signed_in

pytestmark = pytest.mark.django_db


def test_it_gets_a_dataset_only_while_more_wait_than_are_running(alice: User, project: Project) -> None:
    api = signed_in(alice)
    for number in range(5):
        catalogue.create_dataset(project, name=f"d{number}")
    assert claim(api, request_id="first").status_code == 201
    ahead = claim(api, request_id="second", ahead=True)
    assert ahead.status_code == 201
    # Three wait, two are running.
    assert claim(api, request_id="third", ahead=True).status_code == 201
    assert claim(api, request_id="fourth", ahead=True).status_code == 204
    assert claim(api, request_id="fifth").status_code == 201
    # A client that asks again, after a crash, gets what it had.
    again = claim(api, request_id="second", ahead=True)
    assert (again.status_code, again.json()["claim"]) == (200, ahead.json()["claim"])


def test_what_is_held_is_no_next_one_for_anybody(alice: User, project: Project) -> None:
    for number in range(6):
        catalogue.create_dataset(project, name=f"d{number}", locked=number > 2)
    assert claim(signed_in(alice), request_id="first").status_code == 201
    # Two wait, one is running.
    assert claim(signed_in(alice), request_id="second", ahead=True).status_code == 201
    assert claim(signed_in(alice), request_id="third", ahead=True).status_code == 204
    Project.objects.update(paused=True)
    assert claim(signed_in(alice), request_id="fourth", ahead=True).status_code == 204
