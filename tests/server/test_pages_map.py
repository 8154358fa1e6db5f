"""The map of a project's datasets: whose places are on it, how many, and as what text."""

from __future__ import annotations

import json
import re
from decimal import Decimal
from html import unescape
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


def for_script(page: str) -> dict[str, Any]:
    """What the page tells its script."""
    start = page.index(">", page.index('<script id="places-as-json"')) + 1
    told: dict[str, Any] = json.loads(page[start : page.index("</script>", start)])
    return told


def on_map(told: dict[str, Any]) -> list[list[Any]]:
    """The places that the script is told, each with the word of its state."""
    return [[*place, told["states"][state]] for *place, state in told["places"]]


def in_table(page: str) -> list[str]:
    """The keys in the table, in its order."""
    return re.findall("<td>(place [0-9]+)</td>", page)


def link(page: str, rel: str) -> str:
    """The query of the table's neighbouring page, or nothing."""
    found = re.search(rf'rel="{rel}" href="([^"#]*)#live-table', page)
    return unescape(found[1]) if found else ""


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
    (told,) = on_map(for_script(text))
    assert told == [dataset.slug, dataset.name, "<script>alert(1)</script>", -12.5, 45.25, "unprocessed"]
    assert "12.50000° S, 45.25000° E" in text and f"/datasets/{dataset.slug}" in text
    assert "Elsewhere" not in text and "<script>alert" not in text


def test_the_first_places_are_in_the_page_and_its_script_asks_for_the_others_in_turn(
    browser: Client, page: str, project: Project, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    """Also when a dataset has several, and when one goes that was the last of a page."""
    expected = []
    for name in ("one", "two"):
        dataset = catalogue.create_dataset(project, name=name)
        rows = [
            Attribute(item=dataset, place_in=project, kind="lat-long", key=f"{name} {number}", latitude=1, longitude=2)
            for number in range(places.MOST + 1)
        ]
        Attribute.objects.bulk_create(rows)
        expected += [row.key for row in rows]
    browser.get(page)
    with django_assert_num_queries(7):
        text = browser.get(page).content.decode()
    assert "The first 1,000 places of this project&#x27;s datasets." in text
    told = for_script(text)
    found = [on_map(told)]
    Attribute.objects.get(key=f"one {places.MOST - 1}").delete()
    while told["next"]:
        with django_assert_num_queries(4):
            answer = browser.get(f"{page}/places?after={told['next']}")
        told = answer.json()
        found.append(on_map(told))
    assert [len(part) for part in found] == [places.MOST, places.MOST, 2]
    assert [key for part in found for _, _, key, *_ in part] == expected
    assert found[-1][-1] == ["birds:two", "two", f"two {places.MOST}", 1.0, 2.0, "unprocessed"]


def test_what_further_places_are_asked_for_after_may_be_nonsense(browser: Client, page: str, dataset: Dataset) -> None:
    put(dataset, "1", "2")
    for after in ("", "x", "1-", "-1-1", "1-1-1", "9" * 19 + "-1", "٣-٣", "\x00", "1-1\n"):
        assert len(browser.get(f"{page}/places", {"after": after}).json()["places"]) == 1, after
        assert browser.get(page, {"after": after, "before": after}).status_code == 200, after
    beyond = "9" * 18 + "-1"
    assert browser.get(f"{page}/places", {"after": beyond}).json()["places"] == []
    text = browser.get(page, {"after": beyond}).content.decode()
    assert "The table has nothing here any more." in text and len(on_map(for_script(text))) == 1


def test_the_script_is_told_of_a_change_also_when_the_first_places_are_the_same(
    browser: Client, page: str, dataset: Dataset
) -> None:
    put(dataset, "1", "2")
    first = for_script(browser.get(page).content.decode())
    assert for_script(browser.get(page).content.decode()) == first
    catalogue.create_dataset(dataset.project, name="Two")
    second = for_script(browser.get(page).content.decode())
    assert second["version"] != first["version"] and second["places"] == first["places"]


def test_the_table_goes_page_by_page_forwards_and_backwards(
    browser: Client, page: str, dataset: Dataset, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    for number in range(2 * ROWS + 2):
        put(dataset, "10", "20", f"place {number}")
    keys = [f"place {number}" for number in range(2 * ROWS + 2)]
    browser.get(page)
    query, walked = "", []
    for _ in range(3):
        with django_assert_num_queries(7):
            text = browser.get(f"{page}{query}").content.decode()
        assert len(on_map(for_script(text))) == 2 * ROWS + 2
        assert ('data-kept="places" open>' in text) == bool(query)
        walked.append(in_table(text))
        last, query = query, link(text, "next")
    assert (walked, query) == ([keys[:ROWS], keys[ROWS : 2 * ROWS], keys[2 * ROWS :]], "")
    before = link(browser.get(f"{page}{last}").content.decode(), "prev")
    text = browser.get(f"{page}{before}").content.decode()
    assert in_table(text) == keys[ROWS : 2 * ROWS] and link(text, "next")
    text = browser.get(f"{page}{link(text, 'prev')}").content.decode()
    assert in_table(text) == keys[:ROWS] and not link(text, "prev")


def test_further_places_are_for_those_who_see_the_project(
    browser: Client, visitor: Client, page: str, dataset: Dataset
) -> None:
    put(dataset, "1", "2")
    assert visitor.get(f"{page}/places").status_code == 404
    Project.objects.update(visibility="public")
    assert visitor.get(f"{page}/places").json() == browser.get(f"{page}/places").json()
    assert visitor.get("/projects/nope/map/places").status_code == 404
    assert browser.post(f"{page}/places").status_code == 405


def test_a_place_that_is_moved_emptied_or_below_a_dataset(dataset: Dataset, project: Project) -> None:
    other = catalogue.create_dataset(catalogue.create_project(name="Fish"), name="Elsewhere")
    put(catalogue.create_item(dataset, name="Wing"), "1", "2")
    put(project, "1", "2")
    assert places.of(project).rows == []
    put(dataset, "1", "2")
    attribute = dataset.attributes.get()
    attribute.item = other
    attribute.save()
    assert (len(places.of(project).rows), len(places.of(other.project).rows)) == (0, 1)
    attribute.item, attribute.latitude = dataset, None
    attribute.save()
    assert (len(places.of(project).rows), len(places.of(other.project).rows)) == (0, 0)


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
    api = signed_in(User.objects.get(username="alice"))
    first = places.of(project)
    assert len(first.rows) == 20
    with CaptureQueriesContext(connection) as captured:
        assert len(places.of(project, after=first.rows[9].at).rows) == 10
        assert len(places.of(project, 5, before=first.rows[9].at).rows) == 5
        answer = api.get("/api/projects/bees/places/?page_size=10").json()
        assert len(api.get(answer["next"]).json()["results"]) == 10
    queries = [query["sql"] for query in captured if 'FROM "server_attribute"' in query["sql"]]
    assert len(queries) == 6
    for query in queries:
        plan = explained(query)
        assert "server_attribute_place" in plan, plan
        assert not any(word in plan for word in ("Seq Scan on server_attribute", "SCAN server", "TEMP B-TREE")), plan


def test_the_same_places_through_the_api_page_by_page(
    alice: User, project: Project, dataset: Dataset, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    other = catalogue.create_dataset(catalogue.create_project(name="Fish"), name="Elsewhere")
    put(other, "1", "2")
    for number in range(5):
        put(dataset, "-12.5", "45.25", f"place {number}")
    place = {"dataset": "birds:one", "state": "unprocessed", "key": "place 0"}
    place |= {"latitude": "-12.500000000", "longitude": "45.250000000"}
    api = signed_in(alice)
    address: str | None = "/api/projects/birds/places/?page_size=2"
    pages = []
    while address:
        with django_assert_num_queries(4):
            pages.append(api.get(address).json())
        address = pages[-1]["next"]
    assert [page["count"] for page in pages] == [5, 5, 5]
    assert pages[0]["results"][0] == place
    keys = [[place["key"] for place in page["results"]] for page in pages]
    assert keys == [["place 0", "place 1"], ["place 2", "place 3"], ["place 4"]]
    assert api.get(pages[2]["previous"]).json()["results"] == pages[1]["results"]
    wrong = api.get("/api/projects/birds/places/?cursor=W2ZhbHNlLCAiYSIsIDFd")
    assert wrong.status_code == 400 and "`next`" in wrong.json()["cursor"]
