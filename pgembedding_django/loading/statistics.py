"""What the planner knows of a table after many rows came."""

from __future__ import annotations

from django.db.backends.base.base import BaseDatabaseWrapper

__all__ = ["analyze", "analyze_grown"]

#: Rows of a load that is worth an ANALYZE at once; autovacuum looks at a table about once a minute.
MANY = 1_000


def analyze(quoted_table: str, connection: BaseDatabaseWrapper) -> None:
    """
    Let the planner know a table.

    Skipped, with a warning of the server, where the role may not, and where an index is being built or the table
    vacuumed, for which it would wait.
    """
    with connection.cursor() as cursor:
        cursor.execute(f"ANALYZE (SKIP_LOCKED) {quoted_table}")


def analyze_grown(quoted_table: str, rows: int, connection: BaseDatabaseWrapper) -> None:
    """Let the planner know a table of which many rows are new: at least as many as it knew of."""
    if rows < MANY:
        return
    with connection.cursor() as cursor:
        cursor.execute("SELECT reltuples FROM pg_class WHERE oid = to_regclass(%s)", [quoted_table])
        (known,) = cursor.fetchone()
    if rows >= known:
        analyze(quoted_table, connection)
