"""An index of a partitioned table, which Postgres neither creates nor drops concurrently."""

from __future__ import annotations

from typing import Any, cast

from django.db.backends.base.schema import BaseDatabaseSchemaEditor
from django.db.models import Model

from pgembedding_django.engines.partitions import completing_steps, find_index_oid, is_partitioned

__all__ = ["create_by_partition", "goes_by_partition"]

#: What is run where there is no partition to build an index on.
NOTHING_LEFT = "SELECT 1"


def goes_by_partition(
    model: type[Model], schema_editor: BaseDatabaseSchemaEditor, *, concurrently: bool = False, **kwargs: Any
) -> bool:
    """Tell whether what runs concurrently must go partition by partition."""
    table = schema_editor.quote_name(model._meta.db_table)
    return concurrently and not schema_editor.collect_sql and is_partitioned(schema_editor.connection, table)


def create_by_partition(statement: Any, name: str, model: type[Model], schema_editor: BaseDatabaseSchemaEditor) -> Any:
    """
    Build an index on each partition, so that no write waits, and return the last statement that does it.

    statement: that creates the index of the table.
    """
    connection, table = schema_editor.connection, schema_editor.quote_name(model._meta.db_table)
    statement.parts["table"] = f"ONLY {table}"
    oid, nothing_left = find_index_oid(connection, name, table), statement
    if oid is None:
        schema_editor.execute(statement, params=None)
        oid, nothing_left = cast(int, find_index_oid(connection, name, table)), NOTHING_LEFT
    *steps, last = completing_steps(connection, oid) or [nothing_left]
    for step in steps:
        schema_editor.execute(step, params=None)
    return last
