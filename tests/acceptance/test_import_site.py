"""Bringing over another site through its API: what was completed stays completed, and twice is as once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from crunch_tasks.link.client import CrunchClient
from tests.acceptance.conftest import Answer
from tests.contract.test_old_client import ATTRIBUTES, DIAGNOSTICS
from tests.support import depth
from tests.support.servers import crunch_server
from tests.support.site import Site

HISTORIES = {
    "done": [(1, 1), (1, 2), (2, 1), (2, 2), (3, 1), (3, 2)],
    "failed": [(1, 1), (1, 2), (2, 1), (2, 3)],
    "repaired": [(1, 1), (1, 3), (1, 1), (1, 2), (2, 1), (2, 2), (3, 1), (3, 2)],
    "at work": [(1, 1), (1, 2), (2, 1)],
    "new": [],
}
STATES = {
    "done": "completed",
    "failed": "failed",
    "repaired": "completed",
    "at work": "unprocessed",
    "new": "unprocessed",
}


def fill(there: CrunchClient) -> None:
    """A site as published clients of django-crunch leave one."""
    there.create_project(name="Birds", description="b", details="# B\n", workflow="echo 1\r\n")
    for name, history in HISTORIES.items():
        dataset = there.create_dataset(parent="birds", name=name, description="d", details="x\n")
        for number, (stage, state) in enumerate(history):
            if (stage, state) == (1, 1) and number:
                there.reset(dataset["slug"])
            values = {"dataset": dataset["id"], "stage": stage, "state": state, "event_id": f"{name}-{number}"}
            there.post_bare_status({**DIAGNOSTICS, **values, "note": f"note {number}"})
    there.create_item(parent="birds:done", name="Nest", description="n")
    there.create_item(parent="birds:done:nest", name="Egg")
    for kind, values in ATTRIBUTES.items():
        there.create_attribute(kind, item="birds:done", key=f"a {kind}", **values)
        there.create_attribute(kind, item="birds:done:nest:egg", key=f"a {kind}", **values)
    for tag in ("a", "b", "c", "c"):
        there.create_attribute("char", item="birds:new", key="tag", value=tag)


@pytest.fixture
def there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[CrunchClient]:
    """Alice at the other site, which is filled; the command has her token there."""
    with crunch_server(tmp_path / "old", users=("alice",)) as old:
        client = CrunchClient(old.url, old.tokens["alice"])
        fill(client)
        monkeypatch.setenv("CRUNCH_FROM_TOKEN", old.tokens["alice"])
        yield client


def by_key(item: dict) -> dict:
    return {attribute["key"]: attribute for attribute in item["attributes"]}


def test_a_site_is_brought_over_and_a_second_time_changes_nothing(
    site: Site, crunch: Callable[..., Answer], there: CrunchClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    posted, free, cut = CrunchClient.post_bare_status, set(), False

    def post(self: CrunchClient, values: dict) -> object:
        free.add(site.client.next("birds"))
        if cut:
            raise KeyboardInterrupt
        return posted(self, values)

    monkeypatch.setattr(CrunchClient, "post_bare_status", post)
    code, _, err = crunch("import-site", there.url)
    assert code == 0, err
    assert "1 projects, 5 datasets, 2 items, 22 attributes, 21 statuses" in err
    assert free == {""}, "a client could have claimed what is completed there"
    assert not site.client.get_project("birds")["paused"]
    assert [one["value"] for one in site.dataset("birds:new")["attributes"]] == ["a", "b", "c", "c"]
    assert site.client.get_project("birds")["workflow"] == "echo 1\r\n"
    for name, state in STATES.items():
        slug = f"birds:{name.replace(' ', '-')}"
        here, known = site.dataset(slug), there.get_dataset(slug)
        assert (here["state"], here["locked"]) == (state, False), name
        same = ("name", "description", "details", "base_file_path")
        assert {part: here[part] for part in same} == {part: known[part] for part in same}, name
        assert by_key(here) == by_key(known)
        assert site.statuses(slug, effective=False) == HISTORIES[name], name
        assert site.notes(slug) == [f"note {number}" for number in range(len(HISTORIES[name]))]
    (nest,) = site.dataset("birds:done")["items"]
    assert (nest["name"], by_key(nest["items"][0])) == ("Nest", by_key(site.dataset("birds:done")))

    before = list(site.client.pages("api/statuses/"))
    nothing = "Added here: 0 projects, 0 datasets, 0 items, 0 attributes, 0 statuses."
    assert nothing in crunch("import-site", there.url)[2]
    assert list(site.client.pages("api/statuses/")) == before

    later = there.create_dataset(parent="birds", name="later")
    for stage, state in HISTORIES["done"]:
        posted(there, {"dataset": later["id"], "stage": stage, "state": state, "event_id": f"later-{stage}-{state}"})
    cut = True
    code, _, err = crunch("import-site", there.url)
    assert (code, "birds stays paused: not all of it is here. Repeat this command." in err) == (130, True)
    cut = False
    code, _, err = crunch("import-site", there.url)
    assert "Added here: 0 projects, 0 datasets, 0 items, 0 attributes, 6 statuses." in err
    assert "birds is paused; resume it on its page." in err
    assert (site.dataset("birds:later")["state"], free) == ("completed", {""})
    assert site.client.get_project("birds")["paused"]

    code, _, err = crunch("import-site", "birds.example.org")
    assert (code, "SOURCE should look like" in err) == (2, True)
    monkeypatch.setenv("CRUNCH_FROM_TOKEN", "wrong")
    code, _, err = crunch("import-site", there.url)
    assert (code, f"{there.url} does not accept the token. Check CRUNCH_FROM_TOKEN" in err) == (2, True)


@depth.long
def test_an_interrupted_import_goes_on_where_it_was(
    site: Site, crunch: Callable[..., Answer], there: CrunchClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    posted = CrunchClient.post_bare_status
    calls = 0

    def cut(self: CrunchClient, values: dict) -> object:
        nonlocal calls
        calls += 1
        if calls % 4 == 0:
            raise KeyboardInterrupt
        return posted(self, values)

    monkeypatch.setattr(CrunchClient, "post_bare_status", cut)
    for _ in range(30):
        if crunch("import-site", there.url)[0] == 0:
            break
    for name, state in STATES.items():
        slug = f"birds:{name.replace(' ', '-')}"
        assert (site.dataset(slug)["state"], site.dataset(slug)["locked"]) == (state, False), name
        assert site.statuses(slug, effective=False) == HISTORIES[name], name
