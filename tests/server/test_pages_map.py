"""The map of a project's datasets: whose places are on it, how many, and as what text."""

from __future__ import annotations

from decimal import Decimal

import pytest
from django.contrib.auth.models import User
from django.test import Client
from pytest_django import DjangoAssertNumQueries

from server.models import Attribute, Dataset, Item, Project
from server.services import catalogue, places
from tests.support.calls import signed_in


def put(item: Item, latitude: str, longitude: str, key: str = "origin") -> None:
    place = {"latitude": Decimal(latitude), "longitude": Decimal(longitude)}
    Attribute.objects.create(item=item, kind="lat-long", key=key, **place)


@pytest.fixture
def page(alice: User, project: Project) -> str:
    return f"/projects/{project.slug}/map"


def test_the_places_of_the_projects_own_datasets(browser: Client, page: str, dataset: Dataset) -> None:
    """X7. Names are text there too."""
    assert "No dataset of this project has a place yet" in browser.get(page).content.decode()
    other = catalogue.create_dataset(catalogue.create_project(name="Fish"), name="Elsewhere")
    put(other, "1", "2")
    put(dataset, "-12.5", "45.25", "<script>alert(1)</script>")
    text = browser.get(page).content.decode()
    assert 'data-latitude="-12.500000000" data-longitude="45.250000000" data-state="unprocessed"' in text
    assert "12.50000° S, 45.25000° E" in text and f"/datasets/{dataset.slug}" in text
    assert "Elsewhere" not in text and "<script>alert" not in text


def test_of_very_many_places_some_are_shown(
    browser: Client, alice: User, page: str, dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(places, "POINTS", 2)
    for number in range(3):
        put(dataset, str(number), "0", f"place {number}")
    text = browser.get(page).content.decode()
    assert "There are more: the first 2 are shown." in text
    assert "place 1" in text and "place 2" not in text
    told = signed_in(alice).get("/api/projects/birds/places/").json()
    assert (told["cut"], [place["key"] for place in told["places"]]) == (True, ["place 0", "place 1"])


def test_the_same_places_through_the_api(
    alice: User, project: Project, dataset: Dataset, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    other = catalogue.create_dataset(catalogue.create_project(name="Fish"), name="Elsewhere")
    put(other, "1", "2")
    put(dataset, "-12.5", "45.25")
    place = {"dataset": "birds:one", "state": "unprocessed", "key": "origin"}
    place |= {"latitude": "-12.500000000", "longitude": "45.250000000"}
    api = signed_in(alice)
    with django_assert_num_queries(3):
        told = api.get("/api/projects/birds/places/").json()
    assert told == {"cut": False, "places": [place]}
