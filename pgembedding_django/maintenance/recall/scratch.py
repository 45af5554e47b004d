"""A copy of some rows to try indexes on: a temporary table, and a model of it."""

from __future__ import annotations

from typing import Any

from django.apps.registry import Apps
from django.db import NotSupportedError, connections, models

from pgembedding_django.fields import BitField, EmbeddingField
from pgembedding_django.indexes import HnswIndex
from pgembedding_django.querysets import EmbeddingQuerySet

__all__ = ["INDEX", "copied_rows", "copy_rows", "variant"]

Rows = EmbeddingQuerySet[models.Model]

#: The temporary table and its index.
TABLE, INDEX = "pgembedding_tune", "pgembedding_tune_hnsw"


def copy_rows(rows: Rows, field: EmbeddingField, index: HnswIndex) -> Rows:
    """Copy the vectors of rows to a temporary table, and return a queryset of them as copied_rows() does."""
    connection: Any = connections[rows.db]
    _check_temporary(rows.db)
    quote, meta = connection.ops.quote_name, field.model._meta
    chosen, params = rows.values("pk").query.sql_with_params()
    keys = ", ".join(quote(str(each.column)) for each in meta.pk_fields)
    # Where the column holds vectors of any length, these have one.
    column = f"{quote(str(field.column))}::{field.db_type(connection)}"
    statement = (
        f"CREATE TEMPORARY TABLE {TABLE} ON COMMIT DROP AS "
        f"SELECT row_number() OVER () AS id, {column} AS embedding FROM {quote(meta.db_table)} "
        f"WHERE ({keys}) IN ({chosen})"
    )
    with connection.cursor() as cursor:
        # The role's statement_timeout is meant for queries, not for builds.
        cursor.execute("SET LOCAL statement_timeout = 0")
        # DDL takes no parameters from the server.
        cursor.execute(connection.ops.compose_sql(statement, params))
        cursor.execute(f"ALTER TABLE {TABLE} ADD PRIMARY KEY (id)")
        cursor.execute(f"ANALYZE {TABLE}")
    return copied_rows(field, index, rows.db)


def copied_rows(field: EmbeddingField, index: HnswIndex, using: str) -> Rows:
    """Return a queryset of the copy, whose searches go through an index like a declared one."""
    return EmbeddingQuerySet(_stand_in(field, index), using=using)


def _check_temporary(using: str) -> None:
    with connections[using].cursor() as cursor:
        cursor.execute(
            "SELECT has_database_privilege(current_database(), 'TEMP') "
            "AND NOT current_setting('transaction_read_only')::boolean"
        )
        if not cursor.fetchone()[0]:
            raise NotSupportedError(
                f'Tuning copies rows to a temporary table, which this role may not make in database "{using}". Use a '
                "primary server and a role with the TEMP right."
            )


def _stand_in(field: EmbeddingField, index: HnswIndex) -> type[models.Model]:
    """Return a model of the temporary table, in a registry of its own, that calls itself like the field's model."""
    meta = {
        "apps": Apps(),
        "app_label": field.model._meta.app_label,
        "db_table": TABLE,
        "indexes": [variant(index)],
    }
    attributes = {
        "__module__": __name__,
        "Meta": type("Meta", (), meta),
        "id": models.BigIntegerField(primary_key=True),
        field.name: _column(field),
    }
    return type(field.model.__name__, (models.Model,), attributes)


def _column(field: EmbeddingField) -> models.Field[Any, Any]:
    """Return a field of the copy that holds what a field holds, and no text or default."""
    if isinstance(field, EmbeddingField):
        return EmbeddingField(field.dimensions, storage=field.storage, db_column="embedding")
    kwargs = {"length" if isinstance(field, BitField) else "dimensions": field.dimensions}
    return type(field)(db_column="embedding", **kwargs)


def variant(index: HnswIndex, *, m: int | None = None, ef_construction: int | None = None) -> HnswIndex:
    """Return an index of the copy that is like a declared one but for its graph."""
    return HnswIndex(
        fields=list(index.fields),
        name=INDEX,
        distance=index.distance,
        precision=index.precision,
        m=m,
        ef_construction=ef_construction,
    )
