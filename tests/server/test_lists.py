"""Lists of the API: narrowed, ordered, and page by page, at a cost that does not grow with the table."""

from __future__ import annotations

import base64
import datetime as dt
import json
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test.utils import CaptureQueriesContext
from rest_framework.test import APIClient

from server.api import paging
from server.models import Attribute, Dataset, Failure, Project
from server.services import bulk_create, catalogue, datasets
from tests.support.calls import claim, expire, signed_in
from tests.support.plans import explained


@pytest.fixture
def birds(project: Project) -> Project:
    for number in range(45):
        catalogue.create_dataset(project, name=f"d{number:02}")
    catalogue.create_dataset(catalogue.create_project(name="Birds 2"), name="d00")
    kind = Failure.objects.create(project=project, stage=2, signature="KeyError", example="KeyError: 'nest'")
    project.datasets.filter(slug__in=["birds:d03", "birds:d30"]).update(state="failed", failure=kind)
    # Those from d40 on were updated first, then the others; five at one time.
    for dataset in Dataset.objects.all():
        hours = (int(dataset.key[1:]) + 5) % 45 // 5
        Dataset.objects.filter(pk=dataset.pk).update(updated=NOON + dt.timedelta(hours=hours, microseconds=1))
    return project


def walk(api: APIClient, address: str, link: str = "next") -> list[list[str]]:
    """The slugs on each page, from this address on."""
    pages: list[list[str]] = []
    following: str | None = address
    while following:
        answer = api.get(following).json()
        pages.append([row["slug"] for row in answer["results"]])
        following = answer[link]
    return pages


ALL = [f"birds:d{number:02}" for number in range(45)]
WAITING = [slug for slug in ALL if slug not in ("birds:d03", "birds:d30")]
NOON = dt.datetime(2026, 5, 3, 12, tzinfo=dt.UTC)
PARTS = ("places", "changes", "workflows", "members", "webhooks", "deliveries")


@pytest.mark.parametrize(
    ("query", "slugs"),
    [
        ("project=birds", ALL),
        ("project=birds&ordering=-id", ALL[::-1]),
        ("project=birds&ordering=slug", ALL),
        ("project=birds&ordering=-slug", ALL[::-1]),
        ("project=birds&state=failed", ["birds:d03", "birds:d30"]),
        ("project=birds&state=failed&ordering=-id", ["birds:d30", "birds:d03"]),
        ("project=birds&search=D1", ALL[10:20]),
        ("search=birds-2:d", ["birds-2:d00"]),
        ("project=birds&search=x", []),
        ("project=birds&ordering=updated", ALL[40:] + ALL[:40]),
        ("project=birds&ordering=-updated", (ALL[40:] + ALL[:40])[::-1]),
        ("project=birds&state=unprocessed&ordering=slug", WAITING),
        ("project=birds&state=unprocessed&ordering=updated", WAITING[38:] + WAITING[:38]),
        ("project=birds&state=unprocessed&ordering=-updated", (WAITING[38:] + WAITING[:38])[::-1]),
        ("ordering=slug", ["birds-2:d00", *ALL]),
    ],
)
def test_a_list_is_narrowed_ordered_and_read_forwards_and_backwards(
    api: APIClient, birds: Project, query: str, slugs: list[str]
) -> None:
    pages = walk(api, f"/api/datasets/?{query}")
    assert [slug for page in pages for slug in page] == slugs
    assert all(len(page) == 20 for page in pages[:-1])
    if len(pages) > 1:
        second = api.get(api.get(f"/api/datasets/?{query}").json()["next"]).json()
        assert walk(api, second["previous"], "previous") == pages[:1]
        last = second if second["next"] is None else api.get(second["next"]).json()
        assert walk(api, last["previous"], "previous") == pages[:-1][::-1]


def test_a_dataset_tells_when_it_was_updated_to_the_client_that_claims_it_too(api: APIClient, birds: Project) -> None:
    rows = api.get("/api/datasets/?project=birds&ordering=-updated").json()["results"]
    assert rows[0]["updated"] == "2026-05-03T20:00:00.000001Z"
    assert [row["updated"] for row in rows] == sorted((row["updated"] for row in rows), reverse=True)
    claimed = claim(api, dataset="birds:d00").json()["dataset"]
    rows = api.get("/api/datasets/?project=birds&ordering=-updated").json()["results"]
    assert (rows[0]["slug"], rows[0]["updated"]) == ("birds:d00", claimed["updated"])
    later = {"updated": "2030-01-01T00:00:00Z", "description": "d"}
    assert api.patch("/api/datasets/birds:d00/", later).json()["updated"] == claimed["updated"]


def test_a_page_begins_where_the_last_one_ended_whatever_came_or_went(api: APIClient, birds: Project) -> None:
    first = api.get("/api/datasets/?project=birds").json()
    Dataset.objects.get(slug="birds:d19").delete()
    Dataset.objects.get(slug="birds:d00").delete()
    assert [row["slug"] for row in api.get(first["next"]).json()["results"]] == ALL[20:40]


@pytest.mark.parametrize("order", ["updated", "-updated"])
def test_what_is_updated_while_a_list_is_read_moves_and_takes_no_other_along(
    api: APIClient, birds: Project, order: str
) -> None:
    first = api.get(f"/api/datasets/?project=birds&ordering={order}").json()
    whole = [slug for page in walk(api, f"/api/datasets/?project=birds&ordering={order}") for slug in page]
    # The last of this page and two of the next are the newest now.
    moved = whole[19:22]
    Dataset.objects.filter(slug__in=moved).update(updated=NOON + dt.timedelta(days=1))
    second = api.get(first["next"]).json()
    after = [slug for page in walk(api, first["next"]) for slug in page]
    before = [slug for page in walk(api, second["previous"], "previous")[::-1] for slug in page]
    if order == "updated":
        assert (before, after) == (whole[:19], [*whole[22:], *sorted(moved)])
    else:
        assert (before, after) == ([*sorted(moved, reverse=True), *whole[:19]], whole[22:])


def test_a_group_of_failures_is_listed(api: APIClient, birds: Project) -> None:
    (group,) = api.get("/api/projects/birds/failures/").json()
    address = f"/api/datasets/?project=birds&failure={group['failure']}"
    assert walk(api, address) == [["birds:d03", "birds:d30"]]
    assert walk(api, f"{address}&page_size=1&ordering=-slug") == [["birds:d30"], ["birds:d03"]]
    assert walk(api, f"{address}&search=D3") == [["birds:d30"]]
    assert walk(api, f"/api/datasets/?project=birds-2&failure={group['failure']}") == [[]]
    first = api.get(f"{address}&page_size=1").json()
    datasets.retry(Dataset.objects.get(slug="birds:d03").pk)
    assert walk(api, first["next"]) == [["birds:d30"]]


def test_pages_by_number_go_on_as_they_did(api: APIClient, birds: Project) -> None:
    second = api.get("/api/datasets/?page=2").json()
    assert (second["count"], len(second["results"])) == (46, 20)
    assert walk(api, second["next"]) == [
        ["birds:d40", "birds:d41", "birds:d42", "birds:d43", "birds:d44", "birds-2:d00"]
    ]
    assert walk(api, second["previous"], "previous") == [ALL[:20]]
    for page in ("4", "0", "x", "501"):
        answer = api.get(f"/api/datasets/?page={page}")
        assert (answer.status_code, list(answer.json())) == (404, ["detail"])


def test_pages_can_be_larger_and_smaller(api: APIClient, birds: Project) -> None:
    assert [len(page) for page in walk(api, "/api/datasets/?page_size=30")] == [30, 16]
    assert walk(api, "/api/datasets/?page_size=500&project=birds") == [ALL]
    assert walk(api, "/api/datasets/?page_size=1&project=birds&state=failed") == [["birds:d03"], ["birds:d30"]]
    second = api.get("/api/datasets/?page_size=40&page=2").json()
    assert (len(second["results"]), walk(api, second["previous"], "previous")) == (6, [ALL[:40]])
    assert [api.get(f"/api/datasets/?page_size=500&page={page}").status_code for page in (1, 2, 21)] == [200, 404, 404]
    assert "1 to 20." in api.get("/api/datasets/?page_size=500&page=21").json()["detail"]


def test_long_lists_are_not_counted(api: APIClient, birds: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paging, "COUNTED", 45)
    assert api.get("/api/datasets/?project=birds").json()["count"] == 45
    assert api.get("/api/datasets/").json()["count"] is None


def cursor(values: list[Any]) -> str:
    return base64.urlsafe_b64encode(json.dumps([False, *values]).encode()).decode()


@pytest.mark.parametrize("path", ["tokens", *(f"projects/birds/{part}" for part in PARTS)])
def test_a_list_that_is_told_whole_refuses_to_be_narrowed(api: APIClient, project: Project, path: str) -> None:
    for word in ("state", "search", "ordering"):
        refused = api.get(f"/api/{path}/?{word}=failed")
        assert refused.status_code == 400
        assert refused.json() == {word: "The parameters of this list are cursor, page, page_size."}
    assert api.get(f"/api/{path}/?page_size=5&page=1&format=json").status_code == 200


@pytest.mark.parametrize(
    ("address", "name", "words"),
    [
        ("datasets/?project=nope", "project", "no project 'nope'"),
        ("datasets/?project=birds&state=done", "state", "unprocessed, running, completed, failed"),
        ("datasets/?state=failed", "state", "project and state"),
        ("datasets/?project=birds&lease=lost", "lease", "is expired."),
        ("datasets/?lease=expired", "lease", "lease and project"),
        ("datasets/?project=birds&search=x&state=failed", "search", "project and search"),
        ("datasets/?project=birds&failure=1&state=failed", "failure", "failure and project;"),
        ("datasets/?failure=1", "failure", "failure and project;"),
        ("datasets/?project=birds&failure=KeyError", "failure", "number"),
        ("datasets/?project=birds&failure=1&ordering=id", "ordering", "by slug, -slug."),
        ("datasets/?ordering=-updated", "ordering", "by id, -id, slug, -slug."),
        ("datasets/?search=!!", "search", "a letter or a digit"),
        ("datasets/?ordering=name", "ordering", "id, -id, slug, -slug"),
        ("datasets/?project=birds&lease=expired&ordering=slug", "ordering", "by id, -id."),
        ("datasets/?colour=red", "colour", "failure, lease, ordering, page, page_size, project, search, state"),
        *((f"datasets/?page_size={size}", "page_size", "1 to 500") for size in ("0", "501", "-1", "x", "", "9" * 5000)),
        ("datasets/?cursor=x", "cursor", "`next`"),
        ("datasets/?cursor=W2ZhbHNlLCAiYSJd", "cursor", "`next`"),
        ("datasets/?ordering=slug&cursor=W2ZhbHNlLCAxXQ==", "cursor", "`next`"),
        *(
            (f"datasets/?project=birds&ordering=updated&cursor={cursor(values)}", "cursor", "`next`")
            for values in ([1], [1, 2, 3], ["x", 1], [1, "x"], [-1, 1], [10**16, 1], [1, 2**63], [True, 1], [1.5, 1])
        ),
        ("datasets/?project=a%00", "project", "NUL"),
        ("items/?parent=nope", "parent", "no item 'nope'"),
        ("attributes/int/?item=nope", "item", "no item 'nope'"),
        ("statuses/?dataset=x", "dataset", "number"),
        ("projects/?state=failed", "state", "ordering, page, page_size, search"),
    ],
)
def test_what_cannot_be_asked_for_is_refused_with_what_can(
    api: APIClient, project: Project, address: str, name: str, words: str
) -> None:
    answer = api.get(f"/api/{address}")
    assert answer.status_code == 400
    (told,) = answer.json()[name] if isinstance(answer.json()[name], list) else [answer.json()[name]]
    assert words in told


def test_those_whose_lease_has_expired_are_listed_also_what_the_next_claim_would_not_get(
    api: APIClient, birds: Project
) -> None:
    for name in ("d01", "d02", "d04", "d05"):
        assert claim(api, dataset=f"birds:{name}").status_code == 201
    for name in ("d01", "d02", "d05"):
        expire(Dataset.objects.get(slug=f"birds:{name}").pk)
    birds.datasets.filter(key="d01").update(needs="gpus=1")
    birds.datasets.filter(key="d02").update(locked=True)
    assert walk(api, "/api/datasets/?project=birds&lease=expired") == [["birds:d01", "birds:d02", "birds:d05"]]
    assert walk(api, "/api/datasets/?project=birds-2&lease=expired") == [[]]


def test_other_lists_are_narrowed_too(api: APIClient, birds: Project) -> None:
    Attribute.objects.create(item=catalogue.create_item(birds, name="nest"), kind="int", key="n", integer=7)
    assert walk(api, "/api/items/?search=birds:n") == [["birds:nest"]]
    assert walk(api, "/api/projects/?search=bird&ordering=-slug") == [["birds-2", "birds"]]
    assert len(walk(api, "/api/items/?parent=birds")[2]) == 6
    assert api.get("/api/attributes/int/?item=birds:nest").json()["count"] == 1
    assert api.get("/api/attributes/int/?item=birds").json()["count"] == 0


ADDRESSES = [
    *("projects/", "datasets/?project=birds", "datasets/?project=birds&ordering=slug", "datasets/?ordering=-slug"),
    *("datasets/?project=birds&state=unprocessed", "datasets/?project=birds&search=d", "items/?parent=birds"),
    *("datasets/?project=birds&lease=expired", "items/?search=birds"),
    *("datasets/?project=birds&ordering=-updated", "datasets/?project=birds&state=failed&ordering=updated"),
    "datasets/?project=birds&failure=1",
    *("attributes/int/?ordering=-id", "statuses/?ordering=-id"),
]


def added(project: Project, names: range) -> None:
    for number in names:
        dataset = catalogue.create_dataset(project, name=f"d{number}")
        Attribute.objects.create(item=catalogue.create_item(dataset, name="i"), kind="int", key="n", integer=number)
        catalogue.create_project(name=f"p{number}")


@pytest.mark.slow
def test_a_page_takes_the_same_queries_however_long_the_list(database: None) -> None:
    api = signed_in(User.objects.get(username="alice"))
    project = catalogue.create_project(name="Birds")

    def queries() -> dict[str, int]:
        found: dict[str, Any] = {}
        for address in ADDRESSES:
            with CaptureQueriesContext(
                connection,
            ) as captured:
                assert api.get(f"/api/{address}").status_code == 200
            found[address] = len(captured)
        return found

    added(project, range(5))
    few = queries()
    added(project, range(5, 50))
    assert queries() == few
    assert max(few.values()) <= 10


SERVED = {
    "ordering=updated": "server_dataset_updated",
    "ordering=-updated": "server_dataset_updated",
    "ordering=slug": "server_dataset_key",
    "search=d1": "server_dataset_key",
    "state=failed&ordering=updated": "server_state_updated",
    "state=failed&ordering=-updated": "server_state_updated",
    "state=failed&ordering=slug": "server_dataset_state_key",
    "failure=1": "server_dataset_failure",
    "failure=1&ordering=-slug": "server_dataset_failure",
    "failure=1&search=d1": "server_dataset_failure",
}
"""The indexes that have the datasets of a project as they are asked for."""


@pytest.mark.slow
def test_a_page_of_a_projects_datasets_is_read_from_its_index_in_order(database: None) -> None:
    api = signed_in(User.objects.get(username="alice"))
    for name in ("Birds", "Bees"):
        project = catalogue.create_project(name=name)
        made = bulk_create.create_datasets(
            project, {row: bulk_create.NewDataset({"name": f"d{row}"}) for row in range(1, 1001)}
        )
        kind = Failure.objects.create(project=project, stage=2, signature="KeyError", example="KeyError")
        some = [dataset.pk for row, dataset in made.datasets.items() if row % 2]
        Dataset.objects.filter(pk__in=some).update(state="failed", failure=kind)
    if connection.vendor == "postgresql":
        connection.cursor().execute("ANALYZE")
    for query, index in SERVED.items():
        address: str = f"/api/datasets/?project=birds&page_size=5&{query}"
        for _ in range(2):
            with CaptureQueriesContext(connection) as captured:
                address = api.get(address).json()["next"]
            (rows,) = (
                one["sql"] for one in captured if 'FROM "server_dataset"' in one["sql"] and "ORDER" in one["sql"]
            )
            plan = explained(rows)
            assert index in plan, (query, rows, plan)
            assert not any(word in plan for word in ("Sort", "TEMP B-TREE", "SCAN server_dataset")), (query, plan)
