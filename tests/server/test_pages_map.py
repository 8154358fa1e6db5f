"""The map of a project's datasets: whose places are on it, how many, and as what text."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from pytest_django import DjangoAssertNumQueries

from server.models import Attribute, Dataset, Item, Project
from server.pages.paging import ROWS
from server.services import catalogue, places
from tests.support.calls import signed_in
from tests.support.plans import explained


def put(item: Item, latitude: str, longitude: str, key: str = "origin") -> None:
    place = {"latitude": Decimal(latitude), "longitude": Decimal(longitude)}
    Attribute.objects.create(item=item, kind="lat-long", key=key, **place)


def on_map(page: str) -> list[list[Any]]:
    """What the page tells its script, each with the word of its state."""
    start = page.index(">", page.index('<script id="places-as-json"')) + 1
    told = json.loads(page[start : page.index("</script>", start)])
    return [[*place, told["states"][state]] for *place, state in told["places"]]


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
    (told,) = on_map(text)
    assert told == [dataset.slug, dataset.name, "<script>alert(1)</script>", -12.5, 45.25, "unprocessed"]
    assert "12.50000° S, 45.25000° E" in text and f"/datasets/{dataset.slug}" in text
    assert "Elsewhere" not in text and "<script>alert" not in text


def test_of_very_many_places_some_are_shown(
    browser: Client, alice: User, page: str, dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(places, "POINTS", 2)
    for number in range(3):
        put(dataset, str(number), "0", f"place {number}")
    text = browser.get(page).content.decode()
    assert "There are more: the first 2 are shown, and <code>crunch export birds</code> has all." in text
    assert [place[2] for place in on_map(text)] == ["place 0", "place 1"]
    assert "<td>place 1</td>" in text and "place 2" not in text
    told = signed_in(alice).get("/api/projects/birds/places/").json()
    assert (told["cut"], [place["key"] for place in told["places"]]) == (True, ["place 0", "place 1"])


def test_all_places_are_on_the_map_and_the_table_has_them_page_by_page(
    browser: Client, page: str, dataset: Dataset, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    for number in range(ROWS + 2):
        put(dataset, "10", "20", f"place {number}")
    browser.get(page)
    with django_assert_num_queries(6):
        text = browser.get(page).content.decode()
    assert len(on_map(text)) == text.count("<td>10.00000° N, 20.00000° E</td>") + 2 == ROWS + 2
    assert 'data-kept="places">' in text and f"{ROWS} of {ROWS + 2}" in text
    text = browser.get(f"{page}?page=2").content.decode()
    assert len(on_map(text)) == ROWS + 2
    assert 'data-kept="places" open>' in text and text.count("<td>10.00000° N, 20.00000° E</td>") == 2


def test_a_place_that_is_moved_emptied_or_below_a_dataset(dataset: Dataset, project: Project) -> None:
    other = catalogue.create_dataset(catalogue.create_project(name="Fish"), name="Elsewhere")
    put(catalogue.create_item(dataset, name="Wing"), "1", "2")
    put(project, "1", "2")
    assert places.of(project) == ([], False)
    put(dataset, "1", "2")
    attribute = dataset.attributes.get()
    attribute.item = other
    attribute.save()
    assert (len(places.of(project)[0]), len(places.of(other.project)[0])) == (0, 1)
    attribute.item, attribute.latitude = dataset, None
    attribute.save()
    assert (len(places.of(project)[0]), len(places.of(other.project)[0])) == (0, 0)


@pytest.mark.slow
def test_a_map_is_read_from_its_index_however_many_places_others_have(database: None) -> None:
    for name, count in (("Birds", 20_000), ("Bees", 20)):
        project = catalogue.create_project(name=name)
        dataset = catalogue.create_dataset(project, name="one")
        place = {"kind": "lat-long", "key": "origin", "latitude": Decimal(1), "longitude": Decimal(2)}
        rows = [Attribute(item=dataset, place_in=project, **place) for _ in range(count)]
        Attribute.objects.bulk_create(rows, batch_size=500)
    if connection.vendor == "postgresql":
        connection.cursor().execute("ANALYZE")
    with CaptureQueriesContext(connection) as captured:
        assert len(places.of(project)[0]) == 20
    (query,) = captured.captured_queries
    plan = explained(query["sql"])
    assert "server_attribute_place" in plan, plan
    assert not any(word in plan for word in ("Seq Scan on server_attribute", "SCAN", "TEMP B-TREE")), plan


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
