"""What the database itself does: it appends a `StateCount` for each change of a dataset's state or failure by anyone,
and a `ClaimCount` for each claim that is made or ends.

In the database and not in the services, so that nothing can change a state and forget the counts: an update of many
rows, a deletion of a whole project, SQL by hand. The triggers are made after each migration, because SQLite drops them
with the tables that a migration remakes.
"""

from __future__ import annotations

from typing import Any

from django.apps import apps as django_apps
from django.core.exceptions import FieldDoesNotExist
from django.db import connections, transaction
from django.db.models import Count

TABLES = {
    "server_state_added": "server_dataset",
    "server_state_gone": "server_dataset",
    "server_state_moved": "server_dataset",
    "server_counts_begin": "server_project",
    "server_counts_end": "server_project",
    "server_claim_granted": "server_claim",
    "server_claim_ended": "server_claim",
}
"""The triggers, and what each is of."""

GRANTED = "granted"
"""The event of `ClaimCount` that a claim begins with; the others are those of `ClaimEnd`."""

_GRANT = f"INSERT INTO server_claimcount (event, delta) VALUES ('{GRANTED}', 1);"  # noqa: S608 - a word of ours
_END = "INSERT INTO server_claimcount (event, delta) VALUES (NEW.end_reason, 1);"

_SQLITE = (
    """CREATE TRIGGER IF NOT EXISTS server_state_added AFTER INSERT ON server_dataset BEGIN
    INSERT INTO server_statecount (project_id, state, failure, delta)
    VALUES (NEW.project_id, NEW.state, NEW.failure_id, 1);
    END""",
    """CREATE TRIGGER IF NOT EXISTS server_state_gone AFTER DELETE ON server_dataset BEGIN
    INSERT INTO server_statecount (project_id, state, failure, delta)
    VALUES (OLD.project_id, OLD.state, OLD.failure_id, -1);
    END""",
    """CREATE TRIGGER IF NOT EXISTS server_state_moved AFTER UPDATE OF state, project_id, failure_id ON server_dataset
    WHEN (OLD.project_id, OLD.state, OLD.failure_id) IS NOT (NEW.project_id, NEW.state, NEW.failure_id) BEGIN
    INSERT INTO server_statecount (project_id, state, failure, delta)
    VALUES (OLD.project_id, OLD.state, OLD.failure_id, -1), (NEW.project_id, NEW.state, NEW.failure_id, 1);
    END""",
    # A new project may have the number of one that is gone.
    """CREATE TRIGGER IF NOT EXISTS server_counts_begin AFTER INSERT ON server_project BEGIN
    DELETE FROM server_statecount WHERE project_id = NEW.item_ptr_id;
    END""",
    """CREATE TRIGGER IF NOT EXISTS server_counts_end AFTER DELETE ON server_project BEGIN
    DELETE FROM server_statecount WHERE project_id = OLD.item_ptr_id;
    END""",
    f"CREATE TRIGGER IF NOT EXISTS server_claim_granted AFTER INSERT ON server_claim BEGIN {_GRANT} END",
    f"""CREATE TRIGGER IF NOT EXISTS server_claim_ended AFTER UPDATE OF ended ON server_claim
    WHEN OLD.ended IS NULL AND NEW.ended IS NOT NULL BEGIN {_END} END""",
)

# One row for each state and statement, however many datasets it changes.
_POSTGRESQL = (
    """CREATE OR REPLACE FUNCTION server_count_states() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    IF TG_OP = 'INSERT' THEN
        INSERT INTO server_statecount (project_id, state, failure, delta)
        SELECT project_id, state, failure_id, count(*) FROM added GROUP BY project_id, state, failure_id;
    ELSIF TG_OP = 'DELETE' THEN
        INSERT INTO server_statecount (project_id, state, failure, delta)
        SELECT project_id, state, failure_id, -count(*) FROM gone GROUP BY project_id, state, failure_id;
    ELSE
        INSERT INTO server_statecount (project_id, state, failure, delta)
        SELECT project_id, state, failure_id, sum(number) FROM (
            SELECT project_id, state, failure_id, 1 AS number FROM added
            UNION ALL SELECT project_id, state, failure_id, -1 FROM gone
        ) AS moved GROUP BY project_id, state, failure_id HAVING sum(number) <> 0;
    END IF;
    RETURN NULL;
    END $$""",
    """CREATE OR REPLACE FUNCTION server_forget_counts() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    DELETE FROM server_statecount WHERE project_id = COALESCE(NEW.item_ptr_id, OLD.item_ptr_id);
    RETURN NULL;
    END $$""",
    """CREATE OR REPLACE TRIGGER server_state_added AFTER INSERT ON server_dataset
    REFERENCING NEW TABLE AS added FOR EACH STATEMENT EXECUTE FUNCTION server_count_states()""",
    """CREATE OR REPLACE TRIGGER server_state_gone AFTER DELETE ON server_dataset
    REFERENCING OLD TABLE AS gone FOR EACH STATEMENT EXECUTE FUNCTION server_count_states()""",
    """CREATE OR REPLACE TRIGGER server_state_moved AFTER UPDATE ON server_dataset
    REFERENCING OLD TABLE AS gone NEW TABLE AS added FOR EACH STATEMENT EXECUTE FUNCTION server_count_states()""",
    """CREATE OR REPLACE TRIGGER server_counts_begin AFTER INSERT ON server_project
    FOR EACH ROW EXECUTE FUNCTION server_forget_counts()""",
    """CREATE OR REPLACE TRIGGER server_counts_end AFTER DELETE ON server_project
    FOR EACH ROW EXECUTE FUNCTION server_forget_counts()""",
    f"""CREATE OR REPLACE FUNCTION server_count_claim() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    IF TG_OP = 'INSERT' THEN {_GRANT} ELSE {_END} END IF;
    RETURN NULL;
    END $$""",
    """CREATE OR REPLACE TRIGGER server_claim_granted AFTER INSERT ON server_claim
    FOR EACH ROW EXECUTE FUNCTION server_count_claim()""",
    """CREATE OR REPLACE TRIGGER server_claim_ended AFTER UPDATE OF ended ON server_claim
    FOR EACH ROW WHEN (OLD.ended IS NULL AND NEW.ended IS NOT NULL) EXECUTE FUNCTION server_count_claim()""",
)

_STATEMENTS = {"sqlite": _SQLITE, "postgresql": _POSTGRESQL}
_CATALOGUE = {
    "sqlite": "SELECT name FROM sqlite_master WHERE type = 'trigger' AND name LIKE 'server_%'",
    "postgresql": "SELECT tgname FROM pg_trigger WHERE tgname LIKE 'server_%' AND tgrelid IN "
    "('server_dataset'::regclass, 'server_project'::regclass, 'server_claim'::regclass)",
}


def remove(apps: Any, schema_editor: Any) -> None:  # noqa: ARG001
    """In a migration that changes what the triggers do: `install` makes them anew after it."""
    connection = schema_editor.connection
    with connection.cursor() as cursor:
        for name, table in TABLES.items():
            on = f" ON {table}" if connection.vendor == "postgresql" else ""
            cursor.execute(f"DROP TRIGGER IF EXISTS {name}{on}")


def install(using: str, apps: Any = django_apps, **_: Any) -> None:
    """After a migration: make the triggers if one is missing, and count the datasets anew then.

    `apps` has the models as the migration left them; without those that the triggers need, or on another database,
    there is nothing to do.
    """
    connection = connections[using]
    try:
        counts, datasets = apps.get_model("server", "StateCount"), apps.get_model("server", "Dataset")
        counts._meta.get_field("failure")
        statements = _STATEMENTS[connection.vendor]
    except (LookupError, FieldDoesNotExist):
        return
    with transaction.atomic(using), connection.cursor() as cursor:
        cursor.execute(_CATALOGUE[connection.vendor])
        if {name for (name,) in cursor.fetchall()} >= TABLES.keys():
            return
        for statement in statements:
            cursor.execute(statement)
        counts.objects.using(using).all().delete()
        rows = datasets.objects.using(using).order_by().values_list("project", "state", "failure").annotate(Count("pk"))
        counts.objects.using(using).bulk_create(
            counts(project_id=project, state=state, failure=failure, delta=number)
            for project, state, failure, number in rows
        )
