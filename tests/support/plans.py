"""How the database goes about a query."""

from __future__ import annotations

from django.db import connection


def explained(query: str) -> str:
    """The plan of a query as Django logged it."""
    with connection.cursor() as cursor:
        explain = "EXPLAIN " if connection.vendor == "postgresql" else "EXPLAIN QUERY PLAN "
        cursor.execute(explain + query.replace("%", "%%"))
        return "\n".join(str(row) for row in cursor.fetchall())
