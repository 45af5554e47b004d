"""The indexes of vectors of a table around a load: dropped before it, and built once from all rows after it."""

from __future__ import annotations

from django.db import connections
from django.db.models import Model

from pgembedding_django.indexes import vector_indexes

__all__ = ["add_missing_indexes", "drop_indexes"]


def drop_indexes(model: type[Model], using: str) -> list[str]:
    """Drop the indexes of vectors of a table, and return their names."""
    return _change(model, using, stand=True)


def add_missing_indexes(model: type[Model], using: str) -> list[str]:
    """Build the declared indexes that the table lacks, and return their names."""
    return _change(model, using, stand=False)


def _change(model: type[Model], using: str, *, stand: bool) -> list[str]:
    connection = connections[using]
    quote = connection.ops.quote_name
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT name FROM unnest(%s::text[]) name WHERE (to_regclass(name) IS NOT NULL) = %s",
            [[quote(index.name) for index in vector_indexes(model)], stand],
        )
        names = {name for (name,) in cursor.fetchall()}
    changed = [index for index in vector_indexes(model) if quote(index.name) in names]
    if connection.in_atomic_block:
        # Postgres alters no index while checks of foreign keys are pending.
        connection.check_constraints()
    with connection.schema_editor() as editor:
        for index in changed:
            (editor.remove_index if stand else editor.add_index)(model, index)
    return [index.name for index in changed]
