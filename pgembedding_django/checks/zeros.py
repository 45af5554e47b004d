"""A check of rows: vectors of zeros, which a search by cosine leaves out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from django.core.checks import CheckMessage, Warning
from django.core.exceptions import ImproperlyConfigured
from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper

from pgembedding_django.checks.common import AppConfigs, embedding_models, postgres_aliases
from pgembedding_django.engines import get_engine
from pgembedding_django.fields import EmbeddingField, embedding_fields
from pgembedding_django.indexes import declared_index

#: Rows that are read of a table: a check must not take longer the larger it is.
ROWS = 10_000


def check_zeros(
    app_configs: AppConfigs = None, databases: Sequence[str] | None = None, **kwargs: Any
) -> list[CheckMessage]:
    """Count the vectors of zeros among the first rows of each table that is searched by cosine."""
    return [
        message
        for model in embedding_models(app_configs)
        for alias in sorted({*postgres_aliases(model)} & {*(databases or ())})
        for field in embedding_fields(model, local=True)
        if field.distance == "cosine" or declared_index(field, "cosine")
        for message in _check_field(field, connections[alias])
    ]


def _check_field(field: EmbeddingField, connection: BaseDatabaseWrapper) -> Iterator[CheckMessage]:
    zeros, rows = _count(field, connection)
    if zeros:
        yield Warning(
            f"{field.label} is a vector of zeros in {zeros} of the {rows} rows that were read: it has no direction, so "
            "nearest() by cosine leaves them out.",
            hint="Embed these rows again, or set them to NULL. allow_zero=False refuses such vectors.",
            obj=field,
            id="pgembedding.W033",
        )


def _count(field: EmbeddingField, connection: BaseDatabaseWrapper) -> tuple[int, int]:
    try:
        engine = get_engine(connection)
    except ImproperlyConfigured:
        return 0, 0  # E007 says so.
    if connection.vendor == "postgresql" and not engine.version(connection):
        return 0, 0  # E020, W021 or E023 says so.
    quote = connection.ops.quote_name
    table, column = quote(field.model._meta.db_table), quote(str(field.column))
    operand = f"({column} {engine.operator('cosine')} {column})" if engine.undefined_is_nan else column
    with connection.cursor() as cursor:
        # NULL where the table is still to be made.
        cursor.execute("SELECT has_table_privilege(to_regclass(%s), 'SELECT')", [table])
        if not cursor.fetchone()[0]:
            return 0, 0
        cursor.execute(
            f"SELECT count(*) FILTER (WHERE NOT {engine.direction % operand}), count(*) "
            f"FROM (SELECT {column} FROM {table} WHERE {column} IS NOT NULL LIMIT {ROWS}) rows"
        )
        zeros, rows = cursor.fetchone()
    return zeros, rows
