"""What happens at once: real processes against a file database and a real PostgreSQL."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from typing import Any

import pytest

from tests.support.servers import CrunchServer

pytestmark = pytest.mark.slow

SCRIPT = """
import json, multiprocessing, sys
import django
django.setup()
from django.contrib.auth.models import User
from django.core.management import call_command
from django.db import connection
from crunch_tasks.contract import ClaimRequest, Stage, State
from server.api.filters import DATASETS
from server.models import Claim, Dataset, Item, Project
from server.services import catalogue, claims, queue, statuses
from tests.support.storm import check, storm

def prepare(count):
    call_command("flush", interactive=False)
    for name in ("alice", "bob"):
        User.objects.create_user(name, is_staff=True)
    catalogue.create_project(name="Other")
    project = catalogue.create_project(name="Birds")
    items = Item.objects.bulk_create([Item(name=f"d{n}", slug=f"birds:d{n}", parent=project) for n in range(count)])
    rows = [(item.pk, project.pk, f"birds/{item.name}", False, item.name, item.created) for item in items]
    columns = "item_ptr_id, project_id, base_file_path, locked, key, updated, priority, state, fence, attempt"
    columns += ", manifest_sha256, manifest_fence"
    with connection.cursor() as cursor:
        values = "(%s, %s, %s, %s, %s, %s, 0, 'unprocessed', 0, 0, '', 0)"
        cursor.executemany(f"INSERT INTO server_dataset ({columns}) VALUES {values}", rows)

def claim_all(process):
    user, taken = User.objects.get(username="alice"), []
    while found := claims.claim(user, ClaimRequest(request_id=f"{process}-{len(taken)}", project="birds")):
        taken.append((found[0].dataset_id, found[0].fence))
    return taken

def same_requests(process):
    user = User.objects.get(username="alice")
    return [claims.claim(user, ClaimRequest(request_id=f"same-{n}"))[0].pk for n in range(20)]

def post(claim, **event):
    event = statuses.Event(dataset=claim.dataset_id, claim=claim.pk, fence=claim.fence, manifest_sha256="ab", **event)
    return statuses.record(User.objects.get(username="alice"), event)[0]

def events(process):
    claim = Claim.objects.get()
    rows = {post(claim, stage=Stage.SETUP, state=State.START, event_id="start").pk for _ in range(13)}
    end = post(claim, stage=Stage.UPLOAD, state=State.SUCCESS if process % 2 else State.FAIL, event_id=f"end-{process}")
    return [sorted(rows), end.effective]

def plans(process):
    if connection.vendor == "postgresql":
        connection.cursor().execute("ANALYZE")
    birds, projects = Project.objects.filter(slug="birds"), Project.objects.all()
    Dataset.objects.filter(pk=Dataset.objects.first().pk).update(state="running", lease_expires="2000-01-01T00:00Z")
    _, late = queue._fitting(projects, queue.NO_OFFER)
    listed = DATASETS.filters["lease"].narrow(Dataset.objects.filter(project=birds.get()), "expired", {}).order_by("pk")
    plans = [explained(*queue.kinds(birds)), explained(*queue.kinds(projects))]
    return [*plans, late.order_by(*queue.RANK).values_list("pk")[:1].explain(), listed[:20].explain()]

def explained(query, values):
    with connection.cursor() as cursor:
        # PostgreSQL shows the step from one text of needs to the next only when it has made it.
        explain = "EXPLAIN ANALYZE " if connection.vendor == "postgresql" else "EXPLAIN QUERY PLAN "
        cursor.execute(explain + query, values)
        return chr(10).join(str(row) for row in cursor.fetchall())

if sys.argv[1] == "prepare":
    print(prepare(int(sys.argv[2])))
else:
    with multiprocessing.get_context("fork").Pool(int(sys.argv[2])) as pool:
        print(json.dumps(pool.map(globals()[sys.argv[1]], range(int(sys.argv[2])), chunksize=1)))
"""


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def site(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> CrunchServer:
    """A database that processes share, emptied by "prepare"; no web server between."""
    url = request.getfixturevalue("cluster").new_database() if request.param == "postgresql" else ""
    found = CrunchServer(tmp_path_factory.mktemp("site"), url)
    found.manage("migrate", "--verbosity", "0")
    return found


def run(site: CrunchServer, work: str, count: int) -> Any:
    """What `work` answers in each of `count` processes at once."""
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, work, str(count)], env=site.env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return None if work == "prepare" else json.loads(done.stdout)


def test_16_processes_claim_1000_datasets_each_exactly_once(site: CrunchServer) -> None:
    run(site, "prepare", 1000)
    claimed = [tuple(one) for taken in run(site, "claim_all", 16) for one in taken]
    assert len(claimed) == 1000
    assert set(Counter(dataset for dataset, _ in claimed).values()) == {1}
    assert {fence for _, fence in claimed} == {1}


def test_one_event_52_times_at_once_is_one_row_and_one_end_wins(site: CrunchServer) -> None:
    run(site, "prepare", 1)
    run(site, "claim_all", 1)
    answers = run(site, "events", 4)
    assert len({tuple(rows) for rows, _ in answers}) == 1
    assert len(answers[0][0]) == 1
    assert sorted(effective for _, effective in answers) == [False, False, False, True]


def test_the_same_request_at_once_is_one_claim(site: CrunchServer) -> None:
    run(site, "prepare", 25)
    answers = run(site, "same_requests", 4)
    assert len(set(answers[0])) == 20
    assert all(answer == answers[0] for answer in answers)


def test_whatever_8_processes_do_at_once_the_protocol_holds(site: CrunchServer) -> None:
    """Old attempts report late, datasets are reset under their runs, leases expire and are renewed, all at one time."""
    run(site, "prepare", 3)
    effective = run(site, "storm", 8)
    [[claimed, reported]] = run(site, "check", 1)
    assert claimed > 20
    assert 0 < sum(effective) < reported


def test_claims_and_the_list_of_expired_leases_are_served_by_their_indexes(site: CrunchServer) -> None:
    run(site, "prepare", 3000)
    [plans] = run(site, "plans", 1)
    in_project, anywhere, *expired = plans
    for plan in (in_project, anywhere):
        # The first text of needs, the next one, and priority and id of the first dataset with each.
        assert plan.count("server_claim_by_needs") == 4
    # They may be taken from among those that are being processed, which are few too.
    for plan in expired:
        of_running = ("server_project_state", "SEARCH server_dataset USING INDEX")
        assert any(name in plan for name in ("server_lease_expires", *of_running)), plan
    assert "Seq Scan on server_dataset" not in "".join(plans)
