"""Fills a PostgreSQL database with a project of very many datasets and six statuses each, in SQL of its own.

Through the services it would take hours. What the columns say fits together as the services would leave it.
"""

from __future__ import annotations

from django.db import connection

from server.services import catalogue, counts

STATUSES_EACH = 6

# Of each ten one has failed; of each hundred seven wait, and the others are completed; a hundred are running in all.
_ITEMS = """
INSERT INTO server_item (id, name, slug, parent_id, description, details, plain, created, modified)
SELECT %(first)s + n, 'Sample ' || lpad(n::text, 7, '0'), 'birds:sample-' || lpad(n::text, 7, '0'), %(project)s, '', '',
    false, now() - interval '40 days', now() - interval '40 days'
FROM generate_series(1, %(count)s) AS n
"""
_FAILURES = """
INSERT INTO server_failure (project_id, stage, signature, example)
SELECT %(project)s, 2, 'The script ended with exit code 1. KeyError: number ' || n, 'KeyError'
FROM generate_series(1, 20) AS n
"""
_DATASETS = """
INSERT INTO server_dataset (item_ptr_id, project_id, base_file_path, key, locked, priority, state, fence, attempt,
    lease_owner_id, lease_expires, claim_id, progress, manifest_sha256, manifest_fence,
    stage, stage_state, updated, failure_id)
SELECT item.id, item.parent_id, replace(item.slug, ':', '/'), split_part(item.slug, ':', 2), false, 0, life.state, 1, 0,
    NULL, CASE WHEN life.state = 'running' THEN now() + interval '1 day' END, NULL, NULL, '', 0,
    CASE life.state WHEN 'completed' THEN 3 WHEN 'failed' THEN 2 WHEN 'running' THEN 2 END,
    CASE life.state WHEN 'completed' THEN 2 WHEN 'failed' THEN 3 WHEN 'running' THEN 1 END,
    now() - (%(count)s - n) * interval '20 days' / %(count)s,
    CASE WHEN life.state = 'failed' THEN (SELECT min(id) FROM server_failure) + (n / 10) %% 20 END
FROM server_item AS item, LATERAL (SELECT item.id - %(first)s AS n) AS number, LATERAL (SELECT CASE
    WHEN n %% (%(count)s / 100) = 5 THEN 'running' WHEN n %% 10 = 1 THEN 'failed' WHEN n %% 100 > 92 THEN 'unprocessed'
    ELSE 'completed' END AS state) AS life
WHERE item.parent_id = %(project)s
"""
_STATUSES = """
INSERT INTO server_status (dataset_id, site_user_id, claim_id, fence, event_id, stage, state, note, flow_run_id,
    manifest_sha256, effective, refusal, payload_sha256, created, {texts}, {sizes})
SELECT %(first)s + n, NULL, NULL, 1, n || '-' || step, (step + 1) / 2, 2 - step %% 2, '', '', '', true, '', '',
    now() - interval '20 days', {no_texts}, {no_sizes}
FROM generate_series(1, %(count)s) AS n, generate_series(1, %(steps)s) AS step
"""
# Each dataset has a place: of few as of many, the first thousand places are a thousand datasets'.
_PLACES = """
INSERT INTO server_attribute (item_id, place_in_id, kind, key, latitude, longitude)
SELECT %(first)s + n, %(project)s, 'lat-long', 'origin', n::bigint * 7919 %% 1600 / 10.0 - 80,
    n::bigint * 10473 %% 3600 / 10.0 - 180
FROM generate_series(1, %(count)s) AS n
"""


def fill(count: int) -> None:
    """A project `birds` with `count` datasets, each with a place."""
    project = catalogue.create_project(name="Birds", workflow="#!/bin/bash\n")
    texts, sizes = _diagnostics()
    statuses = _STATUSES.format(
        texts=", ".join(texts),
        sizes=", ".join(sizes),
        no_texts=", ".join(["''"] * len(texts)),
        no_sizes=", ".join(["NULL"] * len(sizes)),
    )
    values = {"project": project.pk, "first": project.pk, "count": count, "steps": STATUSES_EACH}
    with connection.cursor() as cursor:
        cursor.execute("SET synchronous_commit TO off")
        for statement in (_ITEMS, _FAILURES, _DATASETS, statuses, _PLACES):
            cursor.execute(statement, values)
        cursor.execute("SELECT setval(pg_get_serial_sequence('server_item', 'id'), (SELECT max(id) FROM server_item))")
        cursor.execute("VACUUM ANALYZE")
        cursor.execute("CHECKPOINT")
    counts.fold(project.pk)


def _diagnostics() -> tuple[list[str], list[str]]:
    """The columns of a status that tell of the client's machine: texts, and sizes in bytes."""
    from server.models.statuses import Diagnostics

    fields = Diagnostics._meta.get_fields()
    sizes = [field.name for field in fields if field.name.endswith(("_total", "_free"))]
    return [field.name for field in fields if field.name not in sizes], sizes
